"""Any sequence of calls and times, on both databases: never above the limit, and nothing leaks.  # G7"""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import Table

from headrace._internal.clock import ManualClock
from headrace.client.local import LocalClient
from headrace.exceptions import ApiError
from headrace.schemas.states import SetStateStatus, StateType
from headrace.server.services import slots
from headrace.server.services.leases import free_unheld_slots
from headrace.server.store.tables import SLOT_LEASE, SLOT_WAITER
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings
from tests.operations.concurrency_world import Limits
from tests.operations.transitions_world import World, proposal

pytestmark = pytest.mark.slow

NAMES = ("a", "b", "c")
HOLDERS = [uuid4() for _ in range(4)]


def outcome(call: Callable[[], UUID | None]) -> tuple[int, UUID | None]:
    """The status of a call's answer, and what it returned."""
    try:
        return 200, call()
    except ApiError as error:
        return error.status, None


def rows_of(tx: Tx, table: Table) -> list[Any]:
    """All rows of a table."""
    return list(tx.execute(table.select()).all())


class Slots(RuleBasedStateMachine):
    """Clients and runs that take, renew, give back and forget slots, while limits change and time passes.

    The model is the plainest there is: who holds what until when. A slot may only be given when the model says that it
    is free; what the limit was lowered beneath may stay.
    """

    store: Store
    clock: ManualClock

    @initialize(limit=st.integers(1, 3))
    def begin(self, limit: int) -> None:
        """Three limits, one of them a deployment's with two runs."""
        self.limits, self.world = Limits(LocalClient(self.store)), World(self.store)
        self.sizes = dict.fromkeys(NAMES, limit)
        for name in NAMES:
            self.limits.make(f"{name}-{self._run}", limit)
        deployment = self.world.deployment(slots=1)
        self.runs = [self.world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(3)]
        self.leases: dict[UUID, tuple[float, dict[str, int]]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._run = uuid4().hex
        self.passed = 0.0

    def _named(self, names: Any) -> list[str]:
        return [f"{name}-{self._run}" for name in names]

    def _live(self, name: str) -> int:
        return sum(held.get(name, 0) for until, held in self.leases.values() if until > self.passed)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1), slots=st.integers(1, 2), who=st.sampled_from(HOLDERS))
    def take(self, names: set[str], slots: int, who: UUID) -> None:
        """Slots are given only where all are free."""
        fits = all(self._live(name) + slots <= self.sizes[name] for name in names)
        status, lease = outcome(
            lambda: self.limits.take(*self._named(names), slots=slots, holder=who, lease_duration=60)
        )
        if lease is None:
            assert status == (422 if any(slots > self.sizes[name] for name in names) else 423)
        else:
            assert fits
            self.leases[lease] = self.passed + 60, dict.fromkeys(names, slots)

    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """A lease is renewed while it lives, and never afterwards."""
        if self.leases:
            lease = data.draw(st.sampled_from(sorted(self.leases)))
            until, held = self.leases[lease]
            lives = until > self.passed
            assert outcome(lambda: self.limits.renew(lease, 60))[0] == (200 if lives else 410)
            if lives:
                self.leases[lease] = self.passed + 60, held

    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        """Giving back a lease frees its slots, and twice is as good as once."""
        if self.leases:
            lease = data.draw(st.sampled_from(sorted(self.leases)))
            self.limits.free(lease)
            self.leases.pop(lease, None)

    @rule(name=st.sampled_from(NAMES), size=st.integers(0, 3))
    def change(self, name: str, size: int) -> None:
        """A limit changes under load."""
        self.limits.change(f"{name}-{self._run}", limit=size)
        self.sizes[name] = size

    @rule(seconds=st.sampled_from([0.5, 7, 31, 61]))
    def wait(self, seconds: float) -> None:
        """Time passes, and the services do their turns."""
        self.clock.advance(seconds)
        self.passed += seconds
        self.store.write(free_unheld_slots)
        slots.run_once(self.store, get_settings())

    @rule(which=st.integers(0, 2), type=st.sampled_from(["PENDING", "RUNNING", "COMPLETED", "SCHEDULED"]))
    def move(self, which: int, type: str) -> None:
        """The runs of the deployment go from state to state."""
        if type == "RUNNING" and self.world.type(self.runs[which]) is not StateType.PENDING:
            return  # the limit is asked about when a run is claimed, as in Prefect
        lease = 100_000.0 if type == "PENDING" else None
        self.world.propose(self.runs[which], type, lease_seconds=lease)

    @invariant()
    def nothing_is_above_its_limit_and_nothing_leaks(self) -> None:
        """What is in use is what the model says; of the deployment's runs at most one is held."""
        for name in NAMES:
            assert self.limits.used(f"{name}-{self._run}") == self._live(name)
        held = [run for run in self.runs if self.world.type(run) in (StateType.PENDING, StateType.RUNNING)]
        assert len(held) <= 1

    def teardown(self) -> None:
        """Whoever still waits is served, when all have gone: nothing is in use, nobody waits."""
        for run in self.runs:
            self.world.propose(run, "COMPLETED", force=True)
        self.clock.advance(200)
        self.store.write(free_unheld_slots)
        for table in (SLOT_LEASE, SLOT_WAITER):
            assert self.store.read(partial(rows_of, table=table)) == []


def test_g7_live_slots_never_exceed_the_limit_and_none_leaks(store: Store, clock: ManualClock) -> None:
    """Acquiring, releasing, renewing, expiry, changed limits and runs, in any order."""
    machine = type("SlotsHere", (Slots,), {"store": store, "clock": clock})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=checks)
    )


def test_g7_whoever_waits_is_served_in_the_end(store: Store, clock: ManualClock) -> None:
    """Ten runs of a deployment with one slot all get it, in the order in which they first asked."""
    world = World(store)
    deployment = world.deployment(slots=1)
    runs = [world.flow_run(proposal("SCHEDULED"), deployment_id=deployment) for _ in range(10)]
    answers = [world.propose(run, "PENDING", lease_seconds=60).status for run in runs]
    assert answers == [SetStateStatus.ACCEPT, *[SetStateStatus.REJECT] * 9]

    for run, after in zip(runs, [*runs[1:], None], strict=True):
        world.propose(run, "COMPLETED")
        slots.run_once(store, get_settings())
        if after is not None:
            assert world.propose(after, "PENDING", lease_seconds=60).status is SetStateStatus.ACCEPT
            clock.advance(1)
