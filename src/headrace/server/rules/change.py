"""How a proposed change of state is decided.

A policy is an ordered table of rules. A rule says which changes it is about (the type of state left and the type
entered), which facts it needs, and has a function that decides: `(change, facts) -> Accept | Reject | Wait | Abort`.

- Rules are picked once, by the current and the proposed type, and asked in order. An `Accept` may amend the proposed
  state for the rules after it, and may ask for effects.
- The first rule that does not accept decides, and no effect of the rules before it is applied. A `Reject` may name
  another state, which is then written instead, with the effects the rejection itself asks for.
- Rules with `asked=AT_THE_END` see the state that is going to be written, whoever decided on it.

Nothing here reads a clock, rolls a die or touches a database: `now`, the id of the new state and the facts are handed
in, and effects are data that `headrace.server.operations.effects` carries out in the transaction that writes the state.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from functools import cached_property
from math import ceil
from typing import Any, Generic, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace

from headrace.schemas.states import FINAL, SetStateStatus, State, StateDetails, StateType
from headrace.server.rules.facts import FOREVER

ANY: frozenset[StateType | None] = frozenset({None, *StateType})
"""Every type, and no state at all."""


class Run(Struct, frozen=True, kw_only=True):
    """What flow runs and task runs have in common, as they stand before a change."""

    id: UUID
    state: State | None = None
    empirical_policy: Mapping[str, Any] = {}
    run_count: int = 0
    total_run_time: float = 0.0
    expected_start_time: datetime | None = None
    next_scheduled_start_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def type(self) -> StateType | None:
        """The type of its state."""
        return None if self.state is None else self.state.type


class FlowRunNow(Run, frozen=True, kw_only=True):
    """A flow run as it stands before a change."""

    deployment_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    work_queue_id: UUID | None = None
    infrastructure_pid: str | None = None
    state_index: int = 0
    epoch: int = 0
    lease_until: datetime | None = None
    lease_seconds: float | None = None
    around: Any = None
    """What the event of a change says of the run; no rule looks at it."""


class TaskRunNow(Run, frozen=True, kw_only=True):
    """A task run as it stands before a change."""

    task_key: str = ""
    tags: Sequence[str] = ()
    flow_run_id: UUID | None = None
    flow_run_run_count: int = 0


RunT = TypeVar("RunT", bound=Run)
FactsT = TypeVar("FactsT")


class Change(Struct, Generic[RunT], frozen=True, kw_only=True):
    """A state proposed for a run.

    Args:
        run: the run as it stands.
        proposed: the state, with the id and timestamp it will have when it is written.
        now: the moment of the transaction.
        epoch: the attempt the caller writes for; None for a caller that knows of none.  # G4
        lease_seconds: length of the lease the caller asks for; None for a caller that wants none.
        renews_slot: whether the caller renews the lease of its deployment's slot itself (Prefect from 3.4.11 on).
        written: the state that is going to be written, for rules asked at the end.
    """

    run: RunT
    proposed: State
    now: datetime
    epoch: int | None = None
    lease_seconds: float | None = None
    renews_slot: bool = False
    written: State | None = None


class Effect(Struct, frozen=True):
    """Something to do in the transaction that writes the state."""


class SetPolicy(Effect, frozen=True):
    """Change keys of the run's empirical policy; `after` the columns that depend on it were computed, if so."""

    values: Mapping[str, Any]
    after: bool = False


class Accept(Struct, frozen=True):
    """Let the change pass, with `state` in place of the proposed one if given (of the same type)."""

    state: State | None = None
    effects: tuple[Effect, ...] = ()


class Reject(Struct, frozen=True):
    """Refuse the proposed state; write `state` instead, or keep the current one when None."""

    reason: str
    state: State | None = None
    effects: tuple[Effect, ...] = ()


class Wait(Struct, frozen=True):
    """Write no state; the caller shall propose again at `until`. The effects are carried out."""

    reason: str
    until: datetime
    effects: tuple[Effect, ...] = ()


class Abort(Struct, frozen=True):
    """Write nothing; the caller shall stop."""

    reason: str


Decision = Accept | Reject | Wait | Abort
ACCEPT = Accept()


class Asked(Enum):
    """When a rule is asked."""

    IN_ORDER = "in order"
    AT_THE_END = "at the end"


@dataclass(frozen=True, eq=False)
class Rule(Generic[RunT, FactsT]):
    """One rule of a policy; see the module."""

    name: str
    decide: Callable[[Change[RunT], FactsT], Decision]
    leaving: frozenset[StateType | None] = ANY
    entering: frozenset[StateType | None] = ANY
    needs: frozenset[str] = frozenset()
    asked: Asked = Asked.IN_ORDER


@dataclass(frozen=True, eq=False)
class Policy(Generic[RunT, FactsT]):
    """An ordered table of rules, and the selections from it that were made before."""

    name: str
    rules: tuple[Rule[RunT, FactsT], ...]
    _picked: dict[tuple[StateType | None, StateType], tuple[Rule[RunT, FactsT], ...]] = field(default_factory=dict)

    @cached_property
    def last_words(self) -> tuple[Rule[RunT, FactsT], ...]:
        """The rules that look at the state that is going to be written."""
        return tuple(rule for rule in self.rules if rule.asked is Asked.AT_THE_END)

    def pick(self, leaving: StateType | None, entering: StateType) -> tuple[Rule[RunT, FactsT], ...]:
        """The rules asked, in order, when a run goes from one type to another."""
        picked = self._picked.get((leaving, entering))
        if picked is None:
            in_order = (rule for rule in self.rules if rule.asked is Asked.IN_ORDER)
            picked = tuple(rule for rule in in_order if leaving in rule.leaving and entering in rule.entering)
            self._picked[leaving, entering] = picked
        return picked

    def needs(self, leaving: StateType | None, entering: StateType) -> frozenset[str]:
        """The facts those rules have to be given."""
        return frozenset().union(*(rule.needs for rule in self.pick(leaving, entering)))


class Verdict(Struct, frozen=True, kw_only=True):
    """What was decided.

    `state` is to be written, if it is not None; `effects` are to be carried out. `rule` names the rule that did not
    accept.
    """

    status: SetStateStatus
    state: State | None = None
    effects: tuple[Effect, ...] = ()
    reason: str | None = None
    wait_seconds: int = 0
    wait_until: datetime | None = None
    rule: str | None = None


def decide(policy: Policy[RunT, FactsT], change: Change[RunT], facts: FactsT) -> Verdict:
    """Ask the rules of `policy` and say what is to be written and done.

    Args:
        policy: the table of rules.
        change: what is proposed.
        facts: what the rules that are asked need to know; see `Policy.needs`.
    """
    effects: tuple[Effect, ...] = ()
    original = change
    for rule in policy.pick(change.run.type, change.proposed.type):
        decision = rule.decide(change, facts)
        if isinstance(decision, Accept):
            effects += decision.effects
            if decision.state is not None:
                change = replace(change, proposed=decision.state)
        elif isinstance(decision, Reject):
            written, effects = decision.state, decision.effects
            if written is not None:
                effects += _last_words(policy, original, written, facts)
            return Verdict(
                status=SetStateStatus.REJECT, state=written, effects=effects, reason=decision.reason, rule=rule.name
            )
        elif isinstance(decision, Wait):
            seconds = max(0, ceil((decision.until - change.now).total_seconds()))
            return Verdict(
                status=SetStateStatus.WAIT,
                effects=decision.effects,
                wait_seconds=seconds,
                wait_until=decision.until,
                reason=decision.reason,
                rule=rule.name,
            )
        else:
            return Verdict(status=SetStateStatus.ABORT, reason=decision.reason, rule=rule.name)
    effects += _last_words(policy, original, change.proposed, facts)
    return Verdict(status=SetStateStatus.ACCEPT, state=change.proposed, effects=effects)


def _last_words(
    policy: Policy[RunT, FactsT], change: Change[RunT], written: State, facts: FactsT
) -> tuple[Effect, ...]:
    """Effects that follow from the state that is written, whichever rule chose it."""
    effects: tuple[Effect, ...] = ()
    for rule in policy.last_words:
        if change.run.type in rule.leaving and written.type in rule.entering:
            decision = rule.decide(replace(change, written=written), facts)
            effects += decision.effects if isinstance(decision, Accept) else ()
    return effects


def with_details(state: State, **details: Any) -> State:
    """`state` with some of its details changed."""
    return replace(state, state_details=replace(state.state_details, **details))


def instead(change: Change[Any], type: StateType, name: str | None = None, **fields: Any) -> State:
    """A state that a rule puts in place of the proposed one, whose id it takes."""
    details = fields.pop("details", None) or StateDetails()
    return State(
        id=change.proposed.id,
        type=type,
        name=name,
        timestamp=change.proposed.timestamp,
        state_details=details,
        **fields,
    )


def is_persisted(data: Any) -> bool:
    """Whether a state's data says where a result is kept."""
    return isinstance(data, Mapping) and data.get("type") != "unpersisted"


def after(moment: datetime, seconds: float) -> datetime:
    """The moment `seconds` later; beyond the calendar there is only `FOREVER`."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return FOREVER


def only(*types: StateType | None) -> frozenset[StateType | None]:
    """A set of types, for the columns of a table of rules."""
    return frozenset(types)


def any_but(*types: StateType | None) -> frozenset[StateType | None]:
    """Every type, and no state, except these."""
    return ANY - frozenset(types)


ENDED: frozenset[StateType | None] = frozenset(FINAL)
"""The final types, for the columns of a table of rules."""
