"""Several runs, their slots, processes and reconcilers, without a database: what property tests play with.

It keeps what the tables keep, applies effects as `operations/effects.py` does, and checks after every step what has to
hold always.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from headrace._internal.ids import uuid7
from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import FINAL, SetStateStatus, State, StateCreate, StateDetails, StateType
from headrace.server.rules.attempts import is_held, is_retry_in_process
from headrace.server.rules.change import Change, FlowRunNow, Policy, Verdict, after, decide
from headrace.server.rules.columns import flow_run_columns, later
from headrace.server.rules.deadlines import (
    Watch,
    lease_has_ended,
    look,
    when_cancelling_lasts,
    when_holder_died,
    when_late,
    when_never_begun,
    when_pause_lasts,
)
from headrace.server.rules.facts import FlowRunFacts, Slots, Times
from headrace.server.rules.flow_runs import (
    FLOW_RUN_RULES,
    FORCED_FLOW_RUN_RULES,
    LATE_FLOW_RUN_RULES,
    RECONCILING_FLOW_RUN_RULES,
)
from headrace.server.rules.slots import HOLDING, ExtendSlot, FreeSlots, TakeSlot
from tests.unit.rules.runs import NOW, as_run

LIMIT = UUID(int=3)
LEASE = 30.0
TIMES = Times()
RECONCILERS = {
    "late": (lambda run, now: when_late(run, now, TIMES), LATE_FLOW_RUN_RULES),
    "pending": (lambda run, now: when_never_begun(run, now, TIMES), RECONCILING_FLOW_RUN_RULES),
    "cancelling": (lambda run, now: when_cancelling_lasts(run, now, TIMES), RECONCILING_FLOW_RUN_RULES),
    "paused": (when_pause_lasts, RECONCILING_FLOW_RUN_RULES),
}


class Orchestra:
    """Runs of one deployment with a concurrency limit, in the hands of whoever proposes.

    Args:
        runs: how many; the last one has no deployment.
        limit: slots of the deployment.
        collision: what happens to a run that finds no slot.
    """

    def __init__(self, runs: int, limit: int, collision: ConcurrencyLimitStrategy) -> None:
        self.now = NOW
        self.limit, self.collision = limit, collision
        policy = {"retries": 1, "retry_delay": 5}
        ids = [UUID(int=100 + number) for number in range(runs)]
        self.runs = [FlowRunNow(id=id, deployment_id=UUID(int=2), empirical_policy=policy) for id in ids]
        self.runs[-1] = replace(self.runs[-1], deployment_id=None)
        self.due: list[Any] = [None] * runs
        self.slots: dict[UUID, tuple[UUID, Any]] = {}
        self.claims: set[tuple[int, int]] = set()
        self.watch: Watch | None = None
        for number in range(runs):
            self.propose(number, StateCreate(type=StateType.SCHEDULED), FORCED_FLOW_RUN_RULES)

    def propose(
        self,
        number: int,
        proposed: StateCreate,
        policy: Policy[FlowRunNow, FlowRunFacts] = FLOW_RUN_RULES,
        epoch: int | None = None,
        lease: float | None = None,
    ) -> Verdict:
        """Propose a state for a run, write what the rules make of it, and check what has to hold."""
        run, details = self.runs[number], proposed.state_details
        if proposed.type is StateType.SCHEDULED and details.scheduled_time is None:
            details = replace(details, scheduled_time=self.now)
        state = State(
            id=uuid7(),
            type=proposed.type,
            name=proposed.name,
            timestamp=later(self.now, run.state),
            state_details=details,
        )
        change = Change(run=run, proposed=state, now=self.now, epoch=epoch, lease_seconds=lease)
        facts = FlowRunFacts(times=TIMES, slots=self._slots(run))
        verdict = decide(policy, change, facts)
        if verdict.state is not None:
            columns = flow_run_columns(change, verdict.state, verdict.effects, TIMES)
            self.runs[number] = replace(as_run(run, columns), state=verdict.state)
            self.due[number] = columns["due"]
            for effect in verdict.effects:
                self._apply(run.id, effect)
        self._check_change(number, run, change, verdict, policy)
        self.check()
        return verdict

    def renew(self, number: int, epoch: int) -> bool:
        """Renew a lease as the endpoint does; False when it is lost."""
        run = self.runs[number]
        if run.epoch != epoch or run.lease_until is None or run.lease_seconds is None:
            return False
        until = after(self.now, run.lease_seconds)
        self.runs[number] = replace(run, lease_until=until)
        if run.type not in (StateType.CANCELLING, StateType.PAUSED):
            self.due[number] = until
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)
        self.check()

    def reconcile(self, service: str) -> None:
        """One turn of a service: it looks at every run whose deadline has passed."""
        decide_on, policy = RECONCILERS[service]
        for number, run in enumerate(self.runs):
            proposed = decide_on(run, self.now) if self._is_due(number) else None
            if proposed is not None:
                self.propose(number, proposed, policy)

    def reap(self) -> None:
        """One turn of the reaper."""
        self.watch = look(self.watch, self.now)
        for number, run in enumerate(self.runs):
            if self._is_due(number) and lease_has_ended(run, self.now, self.watch, 3.0):
                proposed = when_holder_died(run, self.now)
                if proposed is not None:
                    self.propose(number, proposed, RECONCILING_FLOW_RUN_RULES)
        self.slots = {id: (holder, until) for id, (holder, until) in self.slots.items() if until > self.now}

    def check(self) -> None:
        """What holds always."""
        live = [holder for holder, until in self.slots.values() if until > self.now]
        assert len(live) <= self.limit, "more slots are in use than the limit has"  # G7
        assert len(live) == len(set(live)), "a run holds two slots of one limit"
        by_id = {run.id: run for run in self.runs}
        for holder in live:
            run = by_id[holder]
            assert run.type in HOLDING or is_retry_in_process(run), f"a run that is {run.type} holds a slot"
        for run, due in zip(self.runs, self.due, strict=True):
            if run.type in FINAL:
                assert (due, run.lease_until) == (None, None), "a final run waits for something"
            elif run.lease_until is not None or run.type in (StateType.PENDING, StateType.CANCELLING):
                assert due is not None, "a run that somebody holds has no deadline"  # G2

    def _is_due(self, number: int) -> bool:
        return self.due[number] is not None and self.due[number] <= self.now

    def _slots(self, run: FlowRunNow) -> Slots | None:
        if run.deployment_id is None:
            return None
        live = [holder for holder, until in self.slots.values() if until > self.now]
        used = len([holder for holder in live if holder != run.id])
        return Slots(limit_id=LIMIT, limit=self.limit, used=used, held=run.id in live, collision=self.collision)

    def _apply(self, run_id: UUID, effect: object) -> None:
        if isinstance(effect, TakeSlot | FreeSlots):
            self.slots = {id: slot for id, slot in self.slots.items() if slot[0] != run_id}
        if isinstance(effect, TakeSlot):
            self.slots[effect.lease_id] = run_id, effect.until
        if isinstance(effect, ExtendSlot):
            self.slots |= {id: (run_id, effect.until) for id, slot in self.slots.items() if slot[0] == run_id}

    def _check_change(
        self, number: int, before: FlowRunNow, change: Change[FlowRunNow], verdict: Verdict, policy: Any
    ) -> None:
        run = self.runs[number]
        if verdict.state is None:
            assert run == before
            return
        assert run.state_index == before.state_index + 1
        assert before.state is None or verdict.state.timestamp > before.state.timestamp
        assert run.epoch >= before.epoch
        if change.epoch is not None:
            assert change.epoch == before.epoch, "a replaced attempt was heard"  # G4
            forced = policy is FORCED_FLOW_RUN_RULES
            assert forced or before.type not in FINAL, "an attempt changed its final state"  # G5
        if before.type in FINAL and run.type not in FINAL:  # G5
            assert policy in (FLOW_RUN_RULES, FORCED_FLOW_RUN_RULES), "a service left a final state"
            assert run.epoch > before.epoch, "a retry began no epoch"
        self._check_claim(number, before, change, verdict, policy)

    def _check_claim(
        self, number: int, before: FlowRunNow, change: Change[FlowRunNow], verdict: Verdict, policy: Any
    ) -> None:
        run, entered = self.runs[number], change.proposed.type
        starts = verdict.status is SetStateStatus.ACCEPT and entered in (StateType.PENDING, StateType.RUNNING)
        if not starts or change.epoch is not None:
            return
        if change.lease_seconds is not None:
            assert (number, run.epoch) not in self.claims, "two processes hold one attempt"  # G4
            self.claims.add((number, run.epoch))
        if policy is FLOW_RUN_RULES and is_held(before, self.now):
            joins = before.type is StateType.PENDING or (before.type is StateType.PAUSED and entered is run.type)
            assert joins, "a run that is held was started"
            assert change.lease_seconds is None, "a run that is held was claimed"


def pausing(timeout: Any) -> StateDetails:
    """Details of a pause with a time-out."""
    return StateDetails(pause_timeout=timeout)
