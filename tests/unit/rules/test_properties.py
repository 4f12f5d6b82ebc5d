"""No sequence of proposals, deaths, pauses of the server and reconcilers breaks what has to hold always.

`Orchestra` checks after every step: final states are left only by force or by a retry with a new epoch, slots are
never more than the limit and never lost, no attempt has two holders.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.states import FINAL, StateCreate, StateDetails, StateType
from headrace.server.rules.change import after
from headrace.server.rules.flow_runs import FORCED_FLOW_RUN_RULES
from headrace.server.rules.slots import HOLDING
from tests.unit.rules.orchestra import LEASE, RECONCILERS, TIMES, Orchestra

RUNS = 3
numbers = st.integers(0, RUNS - 1)
types = st.sampled_from(list(StateType))
names = st.sampled_from([None, None, None, "Submitting", "Late", "Retrying", "Scheduled"])


class AnySequence(RuleBasedStateMachine):
    """Whoever may propose something does, in any order."""

    @initialize(limit=st.integers(1, 2), collision=st.sampled_from(list(ConcurrencyLimitStrategy)))
    def begin(self, limit: int, collision: ConcurrencyLimitStrategy) -> None:
        """Three scheduled runs, two of them of a deployment with a limit."""
        self.world = Orchestra(RUNS, limit, collision)

    @rule(number=numbers, type=types, name=names, suspended=st.booleans(), timeout=st.sampled_from([None, 20, 600]))
    def a_client_without_epochs_proposes(
        self, number: int, type: StateType, name: str | None, suspended: bool, timeout: float | None
    ) -> None:
        """A Prefect client, or a person."""
        until = None if timeout is None else after(self.world.now, timeout)
        details = StateDetails(pause_reschedule=suspended, pause_timeout=until)
        self.world.propose(number, StateCreate(type=type, name=name, state_details=details))

    @rule(number=numbers, type=types, name=names)
    def somebody_forces(self, number: int, type: StateType, name: str | None) -> None:
        """A person who means it."""
        self.world.propose(number, StateCreate(type=type, name=name), FORCED_FLOW_RUN_RULES)

    @rule(number=numbers, type=st.sampled_from([StateType.PENDING, StateType.RUNNING]), name=names)
    def somebody_claims(self, number: int, type: StateType, name: str | None) -> None:
        """A worker, or a process that runs a flow by hand."""
        self.world.propose(number, StateCreate(type=type, name=name), lease=LEASE)

    @rule(number=numbers, age=st.integers(0, 2), type=types, force=st.booleans())
    def an_attempt_writes(self, number: int, age: int, type: StateType, force: bool) -> None:
        """A process that holds a run, or thinks it does."""
        epoch = self.world.runs[number].epoch - age
        if epoch >= 0:
            options = {"policy": FORCED_FLOW_RUN_RULES} if force else {}
            self.world.propose(number, StateCreate(type=type), epoch=epoch, **options)  # type: ignore[arg-type]

    @rule(number=numbers, age=st.integers(0, 1))
    def an_attempt_renews(self, number: int, age: int) -> None:
        """A process renews its lease; one that was replaced is told that it is lost."""
        run = self.world.runs[number]
        renewed = self.world.renew(number, run.epoch - age)

        assert not (renewed and age)

    @rule(seconds=st.sampled_from([0.5, 4.0, 11.0, 31.0, 301.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody does anything for a while."""
        self.world.advance(seconds)

    @rule(service=st.sampled_from([*RECONCILERS, "leases"]))
    def a_service_has_its_turn(self, service: str) -> None:
        """A reconciler looks."""
        self._turn(service)

    def _turn(self, service: str) -> None:
        if service == "leases":
            self.world.reap()
        else:
            self.world.reconcile(service)

    def teardown(self) -> None:
        """G2, G6, G7, G12: when all have died, what was held ends within its deadlines, and its slots are free."""
        if not hasattr(self, "world"):
            return
        longest = int(max(LEASE, TIMES.cancelling_timeout, TIMES.pending_timeout)) + 10
        for _ in range(0, 2 * longest, 2):
            self.world.advance(2)
            for service in [*RECONCILERS, "leases"]:
                self._turn(service)
        for run in self.world.runs:
            assert run.lease_until is None, f"nobody ended the lease of a run that is {run.type}"
            assert run.type not in (StateType.PENDING, StateType.CANCELLING)
        slots = {holder for holder, until in self.world.slots.values() if until > self.world.now}
        foreign = {run.id for run in self.world.runs if run.type in HOLDING and run.type not in FINAL}
        assert slots <= foreign, "a slot is held by a run that nobody runs"


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
