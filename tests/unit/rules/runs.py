"""Runs without a database: proposals go through the rules, and their columns make the next run."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from headrace._internal.ids import uuid7
from headrace.schemas.states import State, StateDetails, StateType
from headrace.server.rules.change import Change, Effect, FlowRunNow, Policy, TaskRunNow, Verdict, decide
from headrace.server.rules.columns import flow_run_columns, later, task_run_columns
from headrace.server.rules.facts import FlowRunFacts, TaskRunFacts
from headrace.server.rules.flow_runs import FLOW_RUN_RULES
from headrace.server.rules.task_runs import TASK_RUN_RULES

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=1)
DEPLOYMENT = UUID(int=2)


def seconds(number: float) -> datetime:
    """The moment so many seconds after the begin of every world."""
    return NOW + timedelta(seconds=number)


def state(type: StateType, name: str | None = None, at: datetime = NOW, data: Any = None, **details: Any) -> State:
    """A state, with the details given."""
    return State(id=uuid7(), type=type, name=name, timestamp=at, data=data, state_details=StateDetails(**details))


class FlowRunWorld:
    """One flow run: `run` as it stands, `before` the last proposal, and the effects that were asked for so far."""

    def __init__(self, deployment: bool = False, facts: FlowRunFacts | None = None, **fields: Any) -> None:
        self.run = FlowRunNow(id=ID, deployment_id=DEPLOYMENT if deployment else None, **fields)
        self.before = self.run
        self.facts = facts or FlowRunFacts()
        self.now = NOW
        self.effects: list[Effect] = []

    def propose(
        self,
        type: StateType,
        name: str | None = None,
        *,
        policy: Policy[FlowRunNow, FlowRunFacts] = FLOW_RUN_RULES,
        data: Any = None,
        epoch: int | None = None,
        lease: float | None = None,
        renews_slot: bool = False,
        **details: Any,
    ) -> Verdict:
        """Propose a state, and let the run have what the rules make of it."""
        if type is StateType.SCHEDULED:
            details.setdefault("scheduled_time", self.now)
        proposed = state(type, name, later(self.now, self.run.state), data, **details)
        change = Change(
            run=self.run, proposed=proposed, now=self.now, epoch=epoch, lease_seconds=lease, renews_slot=renews_slot
        )
        verdict = decide(policy, change, self.facts)
        self.before = self.run
        if verdict.state is not None:
            self.run = as_run(self.run, flow_run_columns(change, verdict.state, verdict.effects, self.facts.times))
            self.run = replace(self.run, state=verdict.state)
            self.effects.extend(verdict.effects)
        return verdict


class TaskRunWorld:
    """One task run; see `FlowRunWorld`."""

    def __init__(self, facts: TaskRunFacts | None = None, **fields: Any) -> None:
        self.run = TaskRunNow(id=ID, **fields)
        self.before = self.run
        self.facts = facts or TaskRunFacts()
        self.now = NOW

    def propose(
        self,
        type: StateType,
        name: str | None = None,
        *,
        policy: Policy[TaskRunNow, TaskRunFacts] = TASK_RUN_RULES,
        data: Any = None,
        **details: Any,
    ) -> Verdict:
        """Propose a state, and let the run have what the rules make of it."""
        if type is StateType.SCHEDULED:
            details.setdefault("scheduled_time", self.now)
        proposed = state(type, name, later(self.now, self.run.state), data, **details)
        change = Change(run=self.run, proposed=proposed, now=self.now)
        verdict = decide(policy, change, self.facts)
        self.before = self.run
        if verdict.state is not None:
            self.run = as_run(self.run, task_run_columns(change, verdict.state, verdict.effects))
            self.run = replace(self.run, state=verdict.state)
        return verdict


def as_run(run: Any, columns: dict[str, Any]) -> Any:
    """The run with those of the columns that the rules see."""
    return replace(run, **{name: value for name, value in columns.items() if name in type(run).__struct_fields__})


def kinds(effects: Iterable[Effect]) -> list[str]:
    """The names of effects, in their order."""
    return [type(effect).__name__ for effect in effects]
