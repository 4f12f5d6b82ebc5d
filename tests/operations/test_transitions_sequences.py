"""Any sequence of proposals, renewals, deaths and services does the same in SQLite, in PostgreSQL and without either.

The model is `Orchestra`, which checks after each step what has to hold always; the databases are compared with it."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace.schemas.concurrency_limits import ConcurrencyLimitStrategy
from headrace.schemas.leases import RenewRunLeases, RunLease
from headrace.schemas.states import StateCreate, StateType
from headrace.server.operations.leases import renew_run_leases
from headrace.server.operations.transitions import set_flow_run_state
from headrace.server.rules.flow_runs import FORCED_FLOW_RUN_RULES
from headrace.server.services import cancelling, late_runs, paused, pending
from headrace.server.services.leases import Reaper
from headrace.server.store import open_store
from headrace.server.store.tables import FLOW_RUN, FLOW_RUN_STATE, SLOT_LEASE
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.transitions_world import World
from tests.support import postgresql
from tests.unit.rules.orchestra import LEASE, RECONCILERS, Orchestra
from tests.unit.rules.runs import NOW

SERVICES = {"late": late_runs, "pending": pending, "cancelling": cancelling, "paused": paused}
RUNS = 3
numbers = st.integers(0, RUNS - 1)
types = st.sampled_from([kind.value for kind in StateType])
starts = st.sampled_from(["PENDING", "RUNNING"])
steps = st.one_of(
    st.tuples(st.just("propose"), numbers, types),
    st.tuples(st.just("force"), numbers, types),
    st.tuples(st.just("claim"), numbers, starts),
    st.tuples(st.just("claim"), numbers, starts),
    st.tuples(st.just("write"), numbers, types, st.integers(0, 1)),
    st.tuples(st.just("write"), numbers, st.sampled_from(["RUNNING", "FAILED"]), st.just(0)),
    st.tuples(st.just("renew"), numbers, st.integers(0, 1)),
    st.tuples(st.just("wait"), st.sampled_from([1.0, 4.0, 12.0, 31.0, 301.0, 650.0])),
    st.tuples(st.just("serve"), st.sampled_from([*RECONCILERS, "leases"])),
)


class Twin:
    """A database in which the same is done as in the model.

    Args:
        store: the database.
        clock: its clock.
        model: what it has to agree with; its runs are created here.
    """

    def __init__(self, store: Store, clock: ManualClock, model: Orchestra) -> None:
        self.store, self.clock, self.reaper = store, clock, Reaper()
        world = World(store)
        deployment = world.deployment(slots=model.limit, collision_strategy=model.collision.value)
        for run in model.runs:
            of = None if run.deployment_id is None else deployment
            policy = {"retries": 1, "retry_delay": 5}
            world.flow_run(StateCreate(type=StateType.SCHEDULED), id=run.id, deployment_id=of, empirical_policy=policy)

    def do(self, step: tuple[object, ...], ids: list[UUID], epochs: list[int]) -> object:
        """Do one step and return what can be compared of its answer."""
        match step:
            case ("wait", float(seconds)):
                self.clock.advance(seconds)
                return None
            case ("serve", str(name)):
                service = self.reaper if name == "leases" else SERVICES[name]
                service.run_once(self.store, get_settings())
                return None
            case ("renew", int(number), int(age)):
                lease = RunLease(id=ids[number], epoch=epochs[number] - age)
                answer = self.store.write(lambda tx: renew_run_leases(tx, RenewRunLeases(leases=[lease])))
                return not answer.lost
        how, number, type, *age = step
        assert isinstance(number, int)
        options = {
            "propose": {},
            "force": {"force": True},
            "claim": {"lease_seconds": LEASE},
            "write": {"epoch": epochs[number] - int(str(age[0])) if age else 0},
        }[str(how)]
        proposed = StateCreate(type=StateType(type))
        return self.store.write(lambda tx: set_flow_run_state(tx, ids[number], proposed, **options)).status  # type: ignore[arg-type]

    def seen(self) -> object:
        """Runs and slots as the database has them."""
        columns = [
            FLOW_RUN.c[name] for name in ("state_type", "state_name", "state_index", "epoch", "lease_until", "due")
        ]
        runs = select(*columns).order_by(FLOW_RUN.c.id)
        slots = select(SLOT_LEASE.c.holder_id, SLOT_LEASE.c.until).order_by(SLOT_LEASE.c.holder_id)

        def look(tx: object) -> object:
            execute = tx.execute  # type: ignore[attr-defined]
            live = [tuple(slot) for slot in execute(slots) if slot.until > self.clock.now()]
            return [tuple(run) for run in execute(runs)], live

        return self.store.read(look)


def model_step(model: Orchestra, step: tuple[object, ...]) -> object:
    """Do one step in the model and return what can be compared of its answer."""
    match step:
        case ("wait", float(seconds)):
            model.advance(seconds)
            return None
        case ("serve", str(name)):
            model.reap() if name == "leases" else model.reconcile(name)
            return None
        case ("renew", int(number), int(age)):
            return model.renew(number, model.runs[number].epoch - age)
    how, number, type, *age = step
    assert isinstance(number, int)
    proposed = StateCreate(type=StateType(type))
    if how == "force":
        return model.propose(number, proposed, FORCED_FLOW_RUN_RULES).status
    if how == "claim":
        return model.propose(number, proposed, lease=LEASE).status
    epoch = model.runs[number].epoch - int(str(age[0])) if how == "write" else None
    return model.propose(number, proposed, epoch=epoch).status


def model_seen(model: Orchestra) -> object:
    """Runs and slots as the model has them, in the form of `Twin.seen`."""
    runs = []
    for run, due in zip(model.runs, model.due, strict=True):
        assert run.state is not None
        runs.append((run.state.type.value, run.state.name, run.state_index, run.epoch, run.lease_until, due))
    return runs, sorted(slot for slot in model.slots.values() if slot[1] > model.now)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, ManualClock, str | None]]:
    """One store for all examples of a test; each example begins with empty tables."""
    clock = ManualClock()
    on_postgres = request.param == "postgresql"
    url = request.getfixturevalue("postgres_url") if on_postgres else f"sqlite:///{tmp_path}/headrace.db"
    store = open_store(url, clock)
    yield store, clock, url if on_postgres else None
    store.close()
    if on_postgres:
        postgresql.empty(url)


@given(
    limit=st.integers(1, 2),
    collision=st.sampled_from(list(ConcurrencyLimitStrategy)),
    sequence=st.lists(steps, min_size=5, max_size=30),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_g4_g5_g7_databases_do_what_the_model_does(
    shared: tuple[Store, ManualClock, str | None],
    limit: int,
    collision: ConcurrencyLimitStrategy,
    sequence: list[tuple[object, ...]],
) -> None:
    """After every step the answers, states, epochs, leases, deadlines and slots in use are those of the model."""
    store, clock, _ = shared
    for table in (FLOW_RUN, FLOW_RUN_STATE, SLOT_LEASE):
        store.write(lambda tx, table=table: tx.execute(table.delete()))  # type: ignore[misc]
    clock.advance((NOW - clock.now()).total_seconds())
    model = Orchestra(RUNS, limit, collision)
    twin = Twin(store, clock, model)

    for step in sequence:
        epochs, ids = [run.epoch for run in model.runs], [run.id for run in model.runs]
        assert (step, twin.do(step, ids, epochs)) == (step, model_step(model, step))
        assert (step, twin.seen()) == (step, model_seen(model))
