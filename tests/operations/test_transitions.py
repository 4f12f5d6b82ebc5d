"""Changing the state of runs in a database, on SQLite and on PostgreSQL."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.states import FINAL, SetStateStatus, StateType
from headrace.server.events import hints
from headrace.server.operations.transitions import set_flow_run_state
from headrace.server.store.tables import FLOW_RUN_STATE, WORK_QUEUE
from headrace.server.store.transaction import Driver, Store, Tx
from tests.operations.transitions_world import World, proposal, state_of

ACCEPT, REJECT, WAIT, ABORT = SetStateStatus.ACCEPT, SetStateStatus.REJECT, SetStateStatus.WAIT, SetStateStatus.ABORT


@pytest.fixture
def world(store: Store) -> World:
    """Runs on the database under test."""
    return World(store)


def test_g5_a_change_is_one_row_more_and_the_run_says_the_same(world: World, clock: ManualClock) -> None:
    """Each accepted change adds a state with the next index; the run's own columns are those of the last one."""
    run_id = world.flow_run()
    for type in ("RUNNING", "PAUSED", "RUNNING", "COMPLETED"):
        clock.advance(1)
        world.propose(run_id, type)

    rows = world.store.read(
        lambda tx: tx.execute(
            select(FLOW_RUN_STATE.c.state_index, FLOW_RUN_STATE.c.id, FLOW_RUN_STATE.c.type)
            .where(FLOW_RUN_STATE.c.flow_run_id == run_id)
            .order_by(FLOW_RUN_STATE.c.state_index)
        ).all()
    )
    assert [row.state_index for row in rows] == [1, 2, 3, 4, 5]
    assert [row.type for row in rows] == ["PENDING", "RUNNING", "PAUSED", "RUNNING", "COMPLETED"]
    assert world.column(run_id, "state_id") == rows[-1].id
    assert world.column(run_id, "total_run_time") == 2.0


def test_states_within_one_instant_have_different_times(world: World) -> None:
    """When the clock stands still, each state is a microsecond later than the one before."""
    run_id = world.flow_run()

    moments = [state_of(world.propose(run_id, "RUNNING")).timestamp for _ in range(3)]

    assert len(set(moments)) == 3
    assert moments == sorted(moments)


def test_a_state_keeps_what_was_proposed(world: World) -> None:
    """Message, data and details are stored and come back; the run's ids are filled in."""
    run_id = world.flow_run()
    state = proposal("RUNNING", data={"a": [1, None]}, transition_id=UUID(int=5), run_input_keyset={"schema": "s"})

    world.store.write(lambda tx: set_flow_run_state(tx, run_id, state))

    stored = world.run(run_id).state
    assert stored is not None
    assert stored.data == {"a": [1, None]}
    assert stored.state_details.transition_id == UUID(int=5)
    assert stored.state_details.run_input_keyset == {"schema": "s"}
    assert stored.state_details.flow_run_id == run_id


def test_a_change_of_an_unknown_run_is_not_found(world: World) -> None:
    """404, by name, for flow runs and task runs."""
    with pytest.raises(ObjectNotFound, match="Flow run"):
        world.propose(uuid7(), "RUNNING")
    with pytest.raises(ObjectNotFound, match="Task run"):
        world.propose_task(uuid7(), proposal("RUNNING"))


def test_g4_a_request_that_is_sent_again_gets_its_epoch_again(world: World) -> None:
    """When the answer to a claim was lost, the second try learns that the claim was its own."""
    run_id = world.flow_run(proposal("SCHEDULED"))
    claim = proposal("PENDING", transition_id=UUID(int=7))

    answers = [
        world.store.write(lambda tx: set_flow_run_state(tx, run_id, claim, lease_seconds=30.0)) for _ in range(2)
    ]

    assert [(answer.status, answer.epoch) for answer in answers] == [(ACCEPT, 1), (REJECT, 1)]
    assert state_of(answers[0]).id == state_of(answers[1]).id


def test_g4_of_many_claims_at_once_one_is_accepted(world: World) -> None:
    """Workers that claim one run at the same moment: one gets it, the others are told to stop."""
    run_id = world.flow_run(proposal("SCHEDULED"), deployment_id=world.deployment())

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: world.propose(run_id, "PENDING", lease_seconds=30.0), range(16)))

    assert sorted(answer.status for answer in answers) == [ABORT] * 15 + [ACCEPT]
    assert world.column(run_id, "epoch") == 1


def test_g4_of_many_that_run_it_by_hand_one_is_accepted(world: World) -> None:
    """Processes that begin to run one run at the same moment, with and without epochs: one may."""
    run_id = world.flow_run()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: world.propose(run_id, "RUNNING", lease_seconds=90.0 + n), range(16)))

    assert [answer.status for answer in answers].count(ACCEPT) == 1
    assert world.propose(run_id, "RUNNING").status is ABORT
    assert world.run(run_id).run_count == 1


def test_g5_ends_that_meet_leave_one_truth(world: World) -> None:
    """Of many final states proposed at once each that is accepted has its own index, and the last one is in force."""
    run_id = world.flow_run(proposal("RUNNING"))
    ends = [kind for kind in FINAL if kind is not StateType.CRASHED]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: world.propose(run_id, ends[n % 3]), range(12)))

    count, last = world.store.read(
        lambda tx: tx.execute(
            select(func.count(), func.max(FLOW_RUN_STATE.c.state_index)).where(FLOW_RUN_STATE.c.flow_run_id == run_id)
        ).one()
    )
    assert count == last == world.column(run_id, "state_index")
    assert world.type(run_id) in FINAL


def test_a_child_run_shows_in_its_parent(world: World, clock: ManualClock) -> None:
    """The task run that stands for a child has a copy of each of its states, from the first on."""
    parent = world.flow_run(proposal("RUNNING"))
    stands_for = world.task_run(flow_run_id=parent)
    child = world.flow_run(parent_task_run_id=stands_for)
    clock.advance(1)

    world.propose(child, "RUNNING")
    clock.advance(2)
    result = world.propose(child, "COMPLETED")

    row = world.task(stands_for)
    assert (row.state_type, row.run_count, row.total_run_time) == ("COMPLETED", 1, 2.0)
    assert row.state_id != state_of(result).id
    assert state_of(result).state_details.task_run_id == stands_for
    assert world.states(stands_for) == ["Pending", "Pending", "Running", "Completed"]


def test_a_child_may_be_recorded_before_what_stands_for_it(world: World) -> None:
    """A child whose parent task run has not arrived yet runs all the same."""
    child = world.flow_run(parent_task_run_id=uuid7())

    assert world.propose(child, "RUNNING").status is ACCEPT


def test_a_task_run_uses_a_result_from_the_cache(world: World, clock: ManualClock) -> None:
    """A completed state is found by its key until it expires."""
    expires = clock.advance(0).replace(year=2027)
    first, second, third = (world.task_run() for _ in range(3))
    world.propose_task(first, proposal("RUNNING", cache_key="k"))
    world.propose_task(first, proposal("COMPLETED", data=5, cache_key="k", cache_expiration=expires))

    cached = world.propose_task(second, proposal("RUNNING", cache_key="k"))
    clock.advance(400 * 86400)
    expired = world.propose_task(third, proposal("RUNNING", cache_key="k"))

    assert (cached.status, state_of(cached).name, state_of(cached).data) == (REJECT, "Cached", 5)
    assert expired.status is ACCEPT


def test_g7_tags_with_a_limit_let_only_so_many_run(world: World) -> None:
    """Task runs with a limited tag take a slot while they run, and give it back."""
    world.limit("tag:db", 1)
    first, second = world.task_run(tags=["db", "x"]), world.task_run(tags=["db"])
    world.propose_task(first, proposal("RUNNING"))

    waits = world.propose_task(second, proposal("RUNNING"))
    world.propose_task(first, proposal("COMPLETED"))

    assert waits.status is WAIT
    assert world.propose_task(second, proposal("RUNNING")).status is ACCEPT
    assert world.slots_in_use() == 1


def test_workers_are_told_of_runs_and_of_cancelling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheduling and cancelling a run of a work pool is published after the commit, and only then."""
    heard: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(hints, "publish", lambda topic, payload: heard.append((topic, payload)))
    queue, pool = uuid7(), uuid7()

    def create_queue(tx: Tx) -> None:
        values = {"id": queue, "work_pool_id": pool, "name": "q", "is_paused": False, "priority": 1, "status": "READY"}
        tx.execute(WORK_QUEUE.insert(), {**values, "created": tx.now, "updated": tx.now})

    world.store.write(create_queue)
    run_id = world.flow_run(proposal("SCHEDULED"), work_queue_id=queue, deployment_id=uuid7())
    world.propose(run_id, "RUNNING")
    with pytest.raises(ZeroDivisionError):
        world.store.write(lambda tx: (set_flow_run_state(tx, run_id, proposal("CANCELLING")), 1 / 0))
    world.propose(run_id, "CANCELLING")

    topic = f"work-pool:{pool}"
    assert [news for news in heard if news[0] == topic] == [
        (topic, {"type": "runs"}),
        (topic, {"type": "cancel", "flow_run_id": str(run_id)}),
    ]


def test_first_states_make_the_columns_of_a_run(world: World, clock: ManualClock) -> None:
    """Without a state a run is Pending; a scheduled one says when it is expected and when it is late."""
    pending = world.flow_run()
    scheduled = world.flow_run(proposal("SCHEDULED", scheduled_time=clock.now().replace(hour=9)))

    assert world.type(pending) is StateType.PENDING
    assert world.run(scheduled).next_scheduled_start_time == clock.now().replace(hour=9)
    assert world.run(scheduled).expected_start_time == clock.now().replace(hour=9)
    assert world.column(scheduled, "due") == clock.now().replace(hour=9, second=15)
    assert world.column(pending, "state_index") == 1


def test_a_change_costs_five_statements(world: World) -> None:
    """One to load run and state and what is around, one for the run, one for the state, two for its event."""
    run_id = world.flow_run(deployment_id=world.deployment())

    def counted(tx: Tx) -> int:
        statements: list[object] = []
        event.listen(tx.connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        tx._driver = Noting(tx._driver, statements)
        set_flow_run_state(tx, run_id, proposal("RUNNING"))
        return len(statements)

    assert world.store.write(counted) == 5


class Noting:
    """A driver that notes what it runs."""

    def __init__(self, driver: Driver, statements: list[object]) -> None:
        self.settle, self.undo_part, self.count, self.dialect = (
            driver.settle,
            driver.undo_part,
            driver.count,
            driver.dialect,
        )
        self._driver, self._statements = driver, statements

    def fetch(self, sql: str, values: Sequence[Any]) -> tuple[list[Any], int]:
        self._statements.append(sql)
        return self._driver.fetch(sql, values)

    def send(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._statements.append(sql)
        self._driver.send(sql, rows)
