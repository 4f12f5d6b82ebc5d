"""Clean-up that runs leave to the workers of their pool, on both databases."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.states import StateType
from headrace.schemas.work_pools import WorkPool, WorkPoolCreate
from headrace.schemas.work_queues import WorkQueueCreate
from headrace.server.operations.cleanups import KEPT, Cleaner, answer, next_due, reservation, take
from headrace.server.operations.work_pools import create_work_pool, delete_work_pool
from headrace.server.operations.work_queues import create_work_queue
from headrace.server.rules.cleanup import Kind, Operation
from headrace.server.services import cancelling, cleanup, leases, overdue, pending
from headrace.server.store.tables import CLEANUP_DELIVERY
from headrace.server.store.transaction import Store, Tx
from headrace.settings import get_settings, temporary_settings
from tests.operations.events_seen import events_of
from tests.operations.transitions_world import World, proposal

LEASE = 30.0


class Yard(World):
    """Runs of a work pool, and the workers that clear up after them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.pool: WorkPool = store.write(lambda tx: create_work_pool(tx, WorkPoolCreate(name="p", type="process")))
        other = store.write(lambda tx: create_work_queue(tx, "p", WorkQueueCreate(name="other")))
        self.queue, self.other_queue = self.pool.default_queue_id, other.id

    def leave(self, state: str = "CANCELLING", **fields: Any) -> UUID:
        """A run of the pool that is in a state, and that nobody looks after."""
        fields = {"work_queue_id": self.queue, "infrastructure_pid": "host:7", **fields}
        return self.flow_run(proposal(state), **fields)

    def turn(self, *services: Any) -> int:
        """One turn of these services."""
        return sum(service.run_once(self.store, get_settings()) for service in services)

    def rows(self) -> Sequence[Any]:
        """The messages that wait."""
        chosen = select(CLEANUP_DELIVERY).order_by(CLEANUP_DELIVERY.c.since, CLEANUP_DELIVERY.c.id)
        return self.store.read(lambda tx: tx.execute(chosen).all())

    def worker(self, *kinds: Kind, most: int = 10, **fields: Any) -> Cleaner:
        """A worker of the pool."""
        plain = {"id": uuid7(), "pool_id": self.pool.id, "queue_ids": [self.queue], "most": most}
        return Cleaner(**{**plain, **fields}, kinds=kinds or tuple(Kind))

    def take(self, worker: Cleaner) -> Any:
        """What the worker is handed."""
        return self.store.write(lambda tx: take(tx, worker, get_settings().server.worker_channel))

    def say(self, operation: Operation, row: Any, pool_id: UUID | None = None) -> str:
        """What comes of what is said about a message as it was handed out."""
        token, settings = reservation(row).token, get_settings().server.worker_channel
        pool = pool_id or self.pool.id
        return self.store.write(lambda tx: answer(tx, pool, operation, row.id, token, settings))[0]

    def given_up(self) -> list[Any]:
        """What the events say was given up."""
        told = events_of(self.store, "work-pool", self.pool.id)
        return [one.payload for one in told if one.event == "prefect.work-pool.cleanup-dead-lettered"]


@pytest.fixture
def yard(store: Store) -> Yard:
    """A pool on the database under test."""
    return Yard(store)


def test_g12_a_cancelling_that_timed_out_is_cleared_up(yard: Yard, clock: ManualClock) -> None:
    """Once, by what the run's row says of its infrastructure."""
    run = yard.leave()
    clock.advance(61)
    yard.turn(cancelling, cancelling)

    (row,) = yard.rows()

    assert (row.kind, row.flow_run_id, row.infrastructure_pid) == (Kind.CANCELLING_TIMEOUT, run, "host:7")
    assert (row.work_pool_id, row.work_queue_id, row.deliveries) == (yard.pool.id, yard.queue, 0)


def test_g12_a_claim_that_came_to_nothing_is_cleared_up(yard: Yard, clock: ManualClock) -> None:
    """Whether the run goes back to the queue or is ended, the message names the state that was the claim."""
    again, ended = yard.leave("PENDING", deployment_id=yard.deployment()), yard.leave("PENDING")
    claims = [yard.column(run, "state_id") for run in (again, ended)]
    clock.advance(601)
    yard.turn(pending)

    rows = yard.rows()

    assert [yard.type(run) for run in (again, ended)] == [StateType.SCHEDULED, StateType.CRASHED]
    assert [(row.kind, row.claim_id) for row in rows] == [(Kind.PENDING_CLAIM, claim) for claim in claims]


def test_runs_that_leave_nothing(yard: Yard, clock: ManualClock) -> None:
    """Who holds a run by a lease stops by itself; a run without a pool has no workers; a retry is no claim."""
    leased = yard.leave("SCHEDULED", deployment_id=yard.deployment())
    yard.propose(leased, "PENDING", lease_seconds=30.0)
    yard.propose(leased, "CANCELLING", epoch=1)
    waiting = yard.leave("SCHEDULED", deployment_id=yard.deployment())
    yard.propose(waiting, "PENDING", lease_seconds=30.0)
    yard.leave(work_queue_id=None)
    reaper = leases.Reaper()
    for _ in range(700):
        clock.advance(1)
        reaper.run_once(yard.store, get_settings())
    yard.turn(cancelling, pending)

    assert [yard.type(run) for run in (leased, waiting)] == [StateType.CANCELLED, StateType.SCHEDULED]
    assert yard.rows() == []


def test_g2_the_message_is_written_with_the_state(yard: Yard, clock: ManualClock, monkeypatch: Any) -> None:
    """When the transaction fails after it, there is neither."""
    run = yard.leave()
    clock.advance(61)
    with monkeypatch.context() as patched:
        patched.setattr(overdue, "close_inside", lambda *_: 1 / 0)
        yard.turn(cancelling)

    assert (yard.type(run), yard.rows()) == (StateType.CANCELLING, [])
    yard.turn(cancelling)
    assert len(yard.rows()) == 1


def left(yard: Yard, clock: ManualClock, number: int = 1, **fields: Any) -> list[UUID]:
    """Messages, one after the other; returns the runs."""
    runs = []
    for _ in range(number):
        runs.append(yard.leave(**fields))
        clock.advance(61)
        yard.turn(cancelling)
    return runs


def test_a_message_has_one_holder(yard: Yard, clock: ManualClock) -> None:
    """It is reserved for its first taker until that releases it, or its lease ends; then it is the first again."""
    first, second = left(yard, clock, 2)
    one, two = yard.worker(), yard.worker()
    taken = yard.take(one)
    assert (taken.flow_run_id, yard.take(two).flow_run_id, yard.take(two)) == (first, second, None)

    assert yard.say("release", taken) == "accepted"
    again = yard.take(two)
    assert (again.flow_run_id, again.deliveries) == (first, 2)
    assert yard.say("ack", taken) == "invalid_token"
    clock.advance(LEASE - 1)
    assert yard.say("renew", again) == "accepted"
    clock.advance(LEASE - 1)
    assert yard.say("ack", again) == "accepted"
    assert [yard.say("ack", again), len(yard.rows())] == ["not_found", 1]

    assert yard.take(one).flow_run_id == second  # whose taker has said nothing for longer than its lease
    clock.advance(LEASE)
    (row,) = yard.rows()
    assert yard.say("ack", row) == "expired"
    assert yard.take(two).deliveries == 3


def test_workers_get_what_is_for_them(yard: Yard, clock: ManualClock) -> None:
    """Of their pool, of a kind they handle; what is of their queues first, and then what is of others."""
    default = left(yard, clock)[0]
    (other,) = left(yard, clock, work_queue_id=yard.other_queue)

    assert yard.take(yard.worker(pool_id=uuid7())) is None
    assert yard.take(yard.worker(Kind.PENDING_CLAIM)) is None
    mine = yard.worker(queue_ids=[yard.other_queue])
    taken = [yard.take(mine), yard.take(mine)]
    assert [row.flow_run_id for row in taken] == [other, default]
    assert yard.say("ack", taken[0], pool_id=uuid7()) == "unauthorized"  # S5


def test_g14_a_worker_has_no_more_than_it_may_have(yard: Yard, clock: ManualClock) -> None:
    """What it has done, given back, or lost by its lease makes room; to others it makes no difference."""
    left(yard, clock, 4)
    worker, settings = yard.worker(most=2), get_settings().server.worker_channel
    first, _ = yard.take(worker), yard.take(worker)
    assert yard.take(worker) is None
    assert yard.store.read(lambda tx: next_due(tx, worker, settings)) is None
    assert yard.take(yard.worker(most=1)) is not None
    yard.say("ack", first)
    assert yard.take(worker) is not None
    assert yard.take(worker) is None
    clock.advance(LEASE)
    assert [yard.take(worker) is None for _ in range(3)] == [False, False, True]


def test_a_message_that_fails_three_times_is_given_up(
    yard: Yard, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """By the last release, or by the end of the last lease; an event and a line in the log say so."""
    released, forgotten = left(yard, clock, 2)
    worker = yard.worker()
    said = [yard.say("release", yard.take(worker)) for _ in range(3)]
    for _ in range(3):
        assert yard.turn(cleanup) == 0
        assert yard.take(worker).flow_run_id == forgotten
        clock.advance(LEASE)
    assert yard.take(worker) is None
    with caplog.at_level(logging.WARNING):
        turns = [yard.turn(cleanup), yard.turn(cleanup)]

    assert said == ["accepted", "accepted", "dead_lettered"]
    assert (turns, yard.rows()) == ([1, 0], [])
    told = yard.given_up()
    assert [one["flow_run_id"] for one in told] == [str(released), str(forgotten)]
    assert {(one["reason"], one["deliveries"]) for one in told} == {("max_delivery_attempts_reached", "3")}
    assert str(forgotten) in caplog.text


def test_what_no_worker_wants_is_given_up_after_a_day(yard: Yard, clock: ManualClock) -> None:
    """So that pools without workers that clear up do not gather messages for ever; who has one may go on."""
    left(yard, clock, 2)
    clock.advance(KEPT.total_seconds())
    kept = yard.take(yard.worker())
    yard.turn(cleanup)

    assert [row.id for row in yard.rows()] == [kept.id]
    assert [one["reason"] for one in yard.given_up()] == ["not_taken"]


def test_the_settings_say_how_often_and_how_long(yard: Yard, clock: ManualClock) -> None:
    """As Prefect's do; the service can be switched off."""
    left(yard, clock)
    names = {"cleanup_lease_seconds": 5.0, "cleanup_max_delivery_attempts": 1}
    with temporary_settings(**{f"server.worker_channel.{name}": value for name, value in names.items()}):
        assert yard.take(yard.worker()) is not None
        clock.advance(5)
        assert yard.take(yard.worker()) is None
        with temporary_settings(**{"server.services.cleanup_reconciler.enabled": False}):
            assert yard.turn(cleanup) == 0
        assert yard.turn(cleanup) == 1


def test_messages_go_with_their_pool(yard: Yard, clock: ManualClock) -> None:
    """Its infrastructure is nobody's then."""
    left(yard, clock)
    yard.store.write(lambda tx: delete_work_pool(tx, "p"))

    assert yard.rows() == []


def test_takers_at_the_same_time_take_different_messages(yard: Yard) -> None:
    """As several server processes of one database do."""

    def write(tx: Tx) -> None:
        row = {"work_pool_id": yard.pool.id, "work_queue_id": yard.queue, "kind": Kind.PENDING_CLAIM, "deliveries": 0}
        times = {"since": tx.now, "due": tx.now}
        tx.execute(
            CLEANUP_DELIVERY.insert(), [{**row, **times, "id": uuid7(), "flow_run_id": uuid7()} for _ in range(40)]
        )

    yard.store.write(write)

    def take_all(worker: Cleaner) -> list[UUID]:
        return [row.id for row in iter(lambda: yard.take(worker), None)]

    with ThreadPoolExecutor(4) as threads:
        workers = [yard.worker(most=100) for _ in range(4)]
        taken = [id for ids in threads.map(take_all, workers) for id in ids]
    assert sorted(taken) == sorted(row.id for row in yard.rows())
    assert len(set(taken)) == 40
