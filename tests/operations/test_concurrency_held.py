"""Callers that prefer to be held until there is a slot, over HTTP.  # G7"""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from headrace._internal.clock import ManualClock
from headrace.client.http import HttpClient
from headrace.client.local import LocalClient
from headrace.schemas import concurrency_limits_v2 as v2
from headrace.schemas.states import StateType
from headrace.server.events import hints
from headrace.server.http import api as api_module
from headrace.server.http import long_poll
from headrace.server.http.long_poll import STOP, LongPoll, preferred_wait
from headrace.server.operations.slots import FREED
from headrace.server.services.leases import free_unheld_slots
from headrace.server.store.tables import SLOT_WAITER
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.concurrency_world import Limits
from tests.operations.transitions_world import World, proposal
from tests.support.serving import Answer, ask, serving

LEASED = "/v2/concurrency_limits/increment-with-lease"
SCHEDULED, PENDING, RUNNING, COMPLETED = StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED


@pytest.fixture
def limits(api: LocalClient) -> Limits:
    """The calls about limits, on an empty store."""
    return Limits(api)


@pytest.fixture
def world(store: Store) -> World:
    """Runs in the same store."""
    return World(store)


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    """A server on the test's store."""
    with serving(store) as url:
        yield url


class Crowd:
    """Callers that wait, each in a thread; the server tells of the places that are held, of each try and each end."""

    def __init__(self, url: str, threads: ThreadPoolExecutor) -> None:
        self.url, self._threads = url, threads
        self.held: SimpleQueue[UUID] = SimpleQueue()
        self.tried: SimpleQueue[None] = SimpleQueue()
        self.ended: SimpleQueue[None] = SimpleQueue()

    def ask(self, path: str, body: dict[str, Any], seconds: int = 20) -> Future[Answer]:
        """Send a call that may be held, and return when it is."""
        answer = self._threads.submit(ask, self.url, "POST", path, body, prefer=f"wait={seconds}")
        self.held.get(timeout=20)
        return answer

    @contextmanager
    def leaving(self, path: str, body: bytes) -> Iterator[None]:
        """Be held while the block runs, then leave without having been answered."""
        parts = urlsplit(self.url)
        head = f"POST /api{path} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=20\r\nContent-Length: {len(body)}\r\n\r\n"
        with closing(socket.create_connection((parts.hostname or "", parts.port or 0))) as connection:
            connection.sendall(head.encode() + body)
            self.held.get(timeout=20)
            yield

    def take(self, *names: str, slots: int = 1, holder: UUID | None = None, seconds: int = 20) -> Future[Answer]:
        """Ask for slots with a lease, of a run or of nobody in particular."""
        who = holder and {"type": "flow_run", "id": str(holder)}
        return self.ask(LEASED, {"names": names or ["db"], "slots": slots, "holder": who}, seconds)


@pytest.fixture
def crowd(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    """Callers of the server."""
    enter, attempt, answer = LongPoll._enter, LongPoll._try, LongPoll.answer
    with ThreadPoolExecutor(32) as threads:
        made = Crowd(url, threads)

        def entered(self: LongPoll, turn: Any, place: UUID) -> None:
            enter(self, turn, place)
            made.held.put(place)

        def tried(self: LongPoll, *arguments: Any, **options: Any) -> Any:
            made.tried.put(None)
            return attempt(self, *arguments, **options)

        async def answered(self: LongPoll, *arguments: Any) -> Any:
            try:
                return await answer(self, *arguments)
            finally:
                made.ended.put(None)

        monkeypatch.setattr(LongPoll, "answer", answered)
        monkeypatch.setattr(LongPoll, "_enter", entered)
        monkeypatch.setattr(LongPoll, "_try", tried)
        yield made


def lease_of(answer: Future[Answer]) -> UUID:
    """The lease of a caller that was served."""
    served = answer.result(20)
    assert (served.status, served.headers["preference-applied"]) == (200, "wait=20")
    return UUID(served.json()["lease_id"])


def places(store: Store) -> int:
    """How many places in line there are."""
    return store.read(lambda tx: tx.execute(select(func.count()).select_from(SLOT_WAITER)).scalar_one())


def test_g7_held_callers_are_served_in_the_order_they_came(limits: Limits, crowd: Crowd, store: Store) -> None:
    """Twenty of them, each as soon as the one before has given its slot back; and nobody tries out of turn."""
    limits.make()
    lease = limits.take()
    waiting = [crowd.take(holder=uuid4()) for _ in range(20)]

    for number, caller in enumerate(waiting):
        limits.free(lease)
        lease = lease_of(caller)
        assert [one.done() for one in waiting] == [True] * (number + 1) + [False] * (19 - number)
    assert crowd.tried.qsize() == 40
    assert places(store) == 0


def test_g7_held_callers_that_cannot_be_told_apart_have_a_place_each(
    limits: Limits, crowd: Crowd, clock: ManualClock
) -> None:
    """None is taken for another one, and somebody who comes later waits behind them."""
    limits.make(limit=2)
    leases = [limits.take(), limits.take()]
    waiting = [crowd.take() for _ in range(3)]

    clock.advance(2.5)
    limits.refused()
    limits.free(leases[0])
    first = lease_of(waiting[0])
    limits.free(leases[1])
    second = lease_of(waiting[1])
    assert not waiting[2].done()
    limits.free(first)
    assert lease_of(waiting[2]) != second


def test_g7_slots_without_a_lease_and_of_tags_can_be_waited_for(limits: Limits, crowd: Crowd, world: World) -> None:
    """`/increment` of both versions."""
    limits.make("db")
    world.limit("tag:db", 1)
    tag = {"names": ["db"], "task_run_id": str(uuid4())}
    assert ask(crowd.url, "POST", "/concurrency_limits/increment", tag).status == 200
    limits.add("db")

    by_name = crowd.ask("/v2/concurrency_limits/increment", {"names": ["db"], "slots": 1})
    by_tag = crowd.ask("/concurrency_limits/increment", tag | {"task_run_id": str(uuid4())})
    limits.subtract("db")
    assert ask(crowd.url, "POST", "/concurrency_limits/decrement", tag).status == 200

    assert (by_name.result(20).status, by_tag.result(20).status) == (200, 200)
    assert limits.used("db") == limits.used("tag:db") == 1


def test_g7_a_task_run_is_held_until_its_tag_has_a_slot(limits: Limits, crowd: Crowd, world: World) -> None:
    """RUNNING is accepted when the one before has ended."""
    flow_run = world.flow_run(proposal(PENDING))
    world.propose(flow_run, RUNNING)
    world.limit("tag:db", 1)
    first, second = (world.task_run(proposal(PENDING), flow_run_id=flow_run, tags=["db"]) for _ in range(2))
    world.propose_task(first, proposal(RUNNING))

    waiting = crowd.ask(f"/task_runs/{second}/set_state", {"state": {"type": "RUNNING"}})
    world.propose_task(first, proposal(COMPLETED))

    assert waiting.result(20).json()["status"] == "ACCEPT"


def test_g7_a_flow_run_is_held_until_its_deployment_has_a_slot(crowd: Crowd, world: World) -> None:
    """It is claimed when the one before has ended; that it waited is told once."""
    deployment = world.deployment(slots=1)
    first, second = (world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(2))
    world.propose(first, PENDING, lease_seconds=1000)

    claim = {"state": {"type": "PENDING"}, "lease_seconds": 1000}
    waiting = crowd.ask(f"/flow_runs/{second}/set_state", claim)
    world.propose(first, COMPLETED)

    assert waiting.result(20).json()["status"] == "ACCEPT"
    assert world.states(second) == ["Scheduled", "AwaitingConcurrencySlot", "Pending"]


def test_a_run_is_held_until_its_time(crowd: Crowd, world: World, clock: ManualClock) -> None:
    """One that is scheduled for later than the caller would wait is answered at once."""
    run = world.flow_run(proposal(SCHEDULED, scheduled_time=clock.now() + timedelta(seconds=2)))
    world.propose(run, PENDING)

    def begin() -> Any:
        body = {"state": {"type": "RUNNING"}}
        return ask(crowd.url, "POST", f"/flow_runs/{run}/set_state", body, prefer="wait=1").json()

    refused = begin()
    clock.advance(1.98)
    with ThreadPoolExecutor(1) as thread:
        held = thread.submit(begin)
        for _ in range(3):  # once by who was refused; then after each fiftieth of a second that is left
            crowd.tried.get(timeout=20)
        clock.advance(0.03)

    assert (refused["status"], refused["details"]["delay_seconds"]) == ("WAIT", 2)
    assert held.result(20)["status"] == "ACCEPT"


def test_g7_who_leaves_gives_the_place_up(limits: Limits, crowd: Crowd, store: Store) -> None:
    """The next one is served at once, although the first in line never came back."""
    limits.make()
    lease = limits.take()
    with crowd.leaving(LEASED, b'{"names": ["db"], "slots": 1}'):
        second = crowd.take()
    limits.free(lease)

    lease_of(second)
    assert places(store) == 0


def test_g7_a_flow_run_waits_on_when_who_asked_for_it_leaves(crowd: Crowd, world: World, store: Store) -> None:
    """Its state says that it waits: another worker may come for it."""
    deployment = world.deployment(slots=1)
    first, second = (world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(2))
    world.propose(first, PENDING, lease_seconds=1000)

    with crowd.leaving(f"/flow_runs/{second}/set_state", b'{"state": {"type": "PENDING"}, "lease_seconds": 1000}'):
        assert places(store) == 1
    crowd.ended.get(timeout=20)

    assert places(store) == 1


def test_g7_when_the_time_is_up_the_answer_is_as_without_the_header(limits: Limits, crowd: Crowd) -> None:
    """423 with Retry-After; the place in line is kept for who comes back."""
    limits.make()
    lease = limits.take()
    first = uuid4()
    refused = crowd.take(holder=first, seconds=1).result(20)
    limits.free(lease)

    assert (refused.status, refused.headers["preference-applied"]) == (423, "wait=1")
    assert 1.5 < float(refused.headers["retry-after"]) < 2.5
    limits.refused()
    limits.take(holder=first)


def test_g7_a_slot_whose_holder_died_is_given_to_who_is_held(
    limits: Limits, crowd: Crowd, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call frees it: its lease ends, and the next look sees that."""
    monkeypatch.setattr(long_poll, "LOOK_AGAIN", 0.05)
    limits.make()
    limits.take(lease_duration=60)
    waiting = crowd.take()

    clock.advance(61)

    lease_of(waiting)


def test_g17_a_hint_that_is_lost_costs_a_second(limits: Limits, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another server process of the same database frees the slot."""
    limits.make()
    lease = limits.take()
    waiting = crowd.take()
    monkeypatch.setattr(hints, "is_heard", lambda _: False)

    limits.free(lease)

    lease_of(waiting)


def test_g7_rate_limits_serve_as_slots_come_back(limits: Limits, crowd: Crowd, clock: ManualClock) -> None:
    """One after the other, by the clock alone."""
    limits.make("api", 2, slot_decay_per_second=1.0)
    limits.add("api", slots=2, mode="rate_limit")
    body = {"names": ["api"], "slots": 1, "mode": "rate_limit"}
    waiting = [crowd.ask("/v2/concurrency_limits/increment", body) for _ in range(2)]

    clock.advance(1.01)
    assert waiting[0].result(20).status == 200
    assert not waiting[1].done()
    clock.advance(1.01)
    assert waiting[1].result(20).status == 200


def test_g7_a_run_that_is_called_off_while_it_is_held_is_answered(crowd: Crowd, world: World) -> None:
    """Cancelled by somebody else, it has nothing to wait for, and who is behind it moves up."""
    deployment = world.deployment(slots=1)
    runs = [world.flow_run(proposal(SCHEDULED), deployment_id=deployment) for _ in range(3)]
    world.propose(runs[0], PENDING, lease_seconds=1000)
    claim = {"state": {"type": "PENDING"}, "lease_seconds": 1000}
    waiting = [crowd.ask(f"/flow_runs/{run}/set_state", claim) for run in runs[1:]]

    world.propose(runs[1], "CANCELLED")

    assert waiting[0].result(20).json()["status"] == "ABORT"
    world.propose(runs[0], COMPLETED)
    assert waiting[1].result(20).json()["status"] == "ACCEPT"


@pytest.mark.parametrize("how", ["raised", "inactive", "deleted", "reset", "expired"])
def test_g7_whatever_frees_a_slot_wakes_who_is_held(limits: Limits, crowd: Crowd, clock: ManualClock, how: str) -> None:
    """A limit that is changed or deleted, slots that are taken away, and the reaper."""
    limits.make()
    limits.take(lease_duration=60)
    waiting = crowd.take()

    match how:
        case "raised":
            limits.change(limit=2)
        case "inactive":
            limits.change(active=False)
        case "reset":
            limits.change(active_slots=0)
        case "deleted":
            limits.api.call(v2.DELETE_CONCURRENCY_LIMIT_V2, id_or_name="db")
        case _:
            clock.advance(61)
            limits.api.store.write(free_unheld_slots)

    lease_of(waiting)


def test_g14_held_callers_leave_room_for_what_they_wait_for(
    limits: Limits, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten are held where two calls may be under way: the release and health come through, and then they are served."""
    monkeypatch.setattr(api_module, "IN_FLIGHT", 2)
    limits.make(limit=10)
    lease = limits.take(slots=10)
    waiting = [crowd.take() for _ in range(10)]

    free = ask(crowd.url, "POST", "/v2/concurrency_limits/decrement-with-lease", {"lease_id": str(lease)})

    assert (free.status, ask(crowd.url, "GET", "/health").status) == (204, 200)
    assert len({lease_of(one) for one in waiting}) == 10


def test_g14_how_many_are_held_is_bounded(limits: Limits, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back, as if it had not asked to be held."""
    monkeypatch.setattr(long_poll, "HELD", 2)
    limits.make()
    lease = limits.take()
    waiting = [crowd.take() for _ in range(2)]

    refused = ask(crowd.url, "POST", LEASED, {"names": ["db"], "slots": 1}, prefer="wait=20")
    large = {"names": ["db", "x" * long_poll.SMALL], "slots": 1}
    monkeypatch.setattr(long_poll, "HELD", 3)
    too_large = ask(crowd.url, "POST", LEASED, large, prefer="wait=20")

    for one in (refused, too_large):
        assert (one.status, "preference-applied" in one.headers) == (423, False)
    for one in waiting:
        limits.free(lease)
        lease = lease_of(one)


def test_who_is_held_is_answered_when_the_server_ends(limits: Limits, crowd: Crowd) -> None:
    """So that stopping it takes no longer; the place in line is kept."""
    limits.make()
    limits.take()
    waiting = crowd.take()

    hints.publish(FREED, STOP)

    assert waiting.result(20).status == 423


def test_g13_a_caller_whose_call_is_no_longer_valid_is_told_and_holds_up_nobody(limits: Limits, crowd: Crowd) -> None:
    """The limit was lowered below what it asks for: 422, and the next one is served."""
    limits.make(limit=3)
    lease = limits.take(slots=3)
    large, small = crowd.take(slots=3), crowd.take()

    limits.change(limit=2)
    limits.free(lease)

    assert large.result(20).status == 422
    lease_of(small)


def test_clients_of_headrace_ask_to_be_held(limits: Limits, crowd: Crowd) -> None:
    """`wait` of a call; in local mode nobody holds it."""
    limits.make()
    lease = limits.take()
    body = v2.IncrementSlotsWithLease(names=["db"], slots=1)
    served = []
    with HttpClient(crowd.url, get_settings()) as client:

        def take() -> None:
            served.append(client.call(v2.BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE, body=body, wait=20))

        thread = threading.Thread(target=take)
        thread.start()
        crowd.held.get(timeout=20)
        limits.free(lease)
        thread.join(20)

    assert len(served) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (["wait=7"], 7),
        (['respond-async, Wait = "5"; x=1, wait=9'], 5),
        (["return=minimal", "wait=3"], 3),
        (["wait=86400"], 30),
        (["wait=0"], 0),
        (["wait=-1"], 0),
        (["wait=1.5"], 0),
        (["wait=" + "9" * 5000], 0),
        (["wait", "="], 0),
        ([], 0),
    ],
)
def test_the_header_is_read_as_rfc_7240_says(said: list[str], seconds: int) -> None:
    """Whole seconds; the first of several counts; what cannot be read is no preference."""
    headers = [(b"host", b"localhost"), *((b"prefer", one.encode()) for one in said)]

    assert preferred_wait({"headers": headers}) == seconds
