"""Clean-up on the channel of Prefect's workers."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.client import ClientConnection

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.schemas.work_pools import WorkPoolCreate
from headrace.server.events import hints
from headrace.server.operations.cleanups import topic
from headrace.server.operations.work_pools import create_work_pool
from headrace.server.services import cancelling, cleanup, pending
from headrace.server.store.transaction import Store
from headrace.settings import get_settings
from tests.operations.transitions_world import World, proposal
from tests.support.serving import serving
from tests.support.talking import entered, heard, say
from tests.support.worker_frames import CAPABILITIES, CONSUMER, KINDS, about, hello

A_MOMENT = 0.3
"""Seconds in which what must not come would come."""


class Worker:
    """A connected worker; messages and results may come in any order."""

    def __init__(self, connection: ClientConnection, ready: dict[str, Any]) -> None:
        self.connection, self.ready = connection, ready
        self._early: list[Any] = []

    async def _next(self, kind: str, seconds: float = 30) -> Any:
        for frame in self._early:
            if frame["type"] == kind:
                self._early.remove(frame)
                return frame
        while (frame := await heard(self.connection, seconds))["type"] != kind:
            self._early.append(frame)
        return frame

    async def message(self, seconds: float = 30) -> Any:
        """The next message."""
        return await self._next("cleanup.message.v1", seconds)

    async def nothing(self) -> None:
        """No message comes."""
        with pytest.raises(TimeoutError):
            await self.message(A_MOMENT)

    async def say(self, operation: str, message: Any) -> dict[str, Any]:
        """What the server says to what this worker says about a message."""
        said = about(operation, message)
        await say(self.connection, said)
        came: dict[str, Any] = (await self._next("cleanup.operation_result.v1"))["payload"]
        assert came.pop("request_frame_id") == said["id"]
        assert (came.pop("message_id"), came.pop("operation")) == (message["payload"]["message_id"], operation)
        return came


class Yard:
    """A pool whose channel is served, and runs of it that nobody looks after."""

    def __init__(self, url: str, store: Store, clock: ManualClock) -> None:
        self._url, self._store, self._clock, self._world = url, store, clock, World(store)
        self.pool = store.write(lambda tx: create_work_pool(tx, WorkPoolCreate(name="p", type="process")))

    async def leave(self, state: str = "CANCELLING") -> UUID:
        """Have the server move a run on, which leaves something to be cleared away."""
        fields = {"work_queue_id": self.pool.default_queue_id, "infrastructure_pid": "host:7"}

        def do() -> UUID:
            run = self._world.flow_run(proposal(state), **fields)
            self.claim = self._world.column(run, "state_id")
            self._clock.advance(61 if state == "CANCELLING" else 601)
            for service in (cancelling, pending):
                service.run_once(self._store, get_settings())
            return run

        return await asyncio.to_thread(do)

    def advance(self, seconds: float) -> None:
        """Move the clock, and have the server look."""
        self._clock.advance(seconds)
        hints.publish(topic(self.pool.id), {})

    async def worker(self, pool: str = "p", **more: Any) -> Worker:
        """A worker that has been welcomed."""
        said = {"handled_cleanup_kinds": KINDS, "consumer_id": str(uuid7()), "create_pool_if_not_found": True, **more}
        connection = await entered(f"{self._url}/work_pools/{pool}/workers/connect", hello(**said))
        return Worker(connection, (await heard(connection))["payload"])


@pytest.fixture
def yard(store: Store, clock: ManualClock) -> Iterator[Yard]:
    """A pool on each database."""
    with serving(store, operations={}) as url:
        yield Yard(url, store, clock)


def result(status: str, reason: str | None = None, lease: str | None = None) -> dict[str, Any]:
    """A result as it is sent."""
    return {"status": status, "reason": reason, "lease_expires_at": lease, "detail": None}


ACCEPTED = result("accepted")
NOT_GRANTED = result("unauthorized", "cleanup_delivery_not_accepted")
NOT_ITS_OWN = result("invalid_token", "reservation_token_mismatch")


@pytest.mark.parametrize("state", ["CANCELLING", "PENDING"])
def test_g12_a_worker_clears_up_after_a_run(yard: Yard, state: str) -> None:
    """It is told of the run, may take longer, and is heard when it is done: then the message is gone."""

    async def scene() -> None:
        worker = await yard.worker()
        run = await yard.leave(state)
        message = await worker.message()
        said = message["payload"]
        target = {"flow_run_id": str(run), "infrastructure_pid": "host:7"}
        if state == "PENDING":
            target |= {"claim_id": str(yard.claim), "execution_id": None}
        moved = "2026-01-01T00:01" if state == "CANCELLING" else "2026-01-01T00:10"
        assert said == {
            "message_id": said["message_id"], "reservation_token": said["reservation_token"],
            "lease_expires_at": f"{moved}:31Z", "delivery_count": 1, "work_queue_id": str(yard.pool.default_queue_id),
            "kind": KINDS[state == "PENDING"], "target": target, "data": {},
        }  # fmt: skip
        yard.advance(20)
        assert await worker.say("renew", message) == result("accepted", lease=f"{moved}:51Z")
        yard.advance(20)
        assert await worker.say("ack", message) == ACCEPTED
        assert await worker.say("ack", message) == result("not_found", "message_not_found")
        yard.advance(60)
        await worker.nothing()

    asyncio.run(scene())


def test_what_a_worker_gives_back_is_handed_out_again(yard: Yard) -> None:
    """With another token, until it was handed out three times."""

    async def scene() -> None:
        worker = await yard.worker()
        await yard.leave()
        first = await worker.message()
        assert await worker.say("release", first) == ACCEPTED
        second = await worker.message()
        assert await worker.say("ack", first) == NOT_ITS_OWN
        assert await worker.say("release", second) == ACCEPTED
        third = await worker.message()
        assert [one["payload"]["delivery_count"] for one in (first, second, third)] == [1, 2, 3]
        assert await worker.say("release", third) == result("dead_lettered", "max_delivery_attempts_reached")
        assert await worker.say("release", third) == result("not_found", "message_not_found")
        await worker.nothing()

    asyncio.run(scene())


def test_a_lost_worker_is_replaced_when_its_lease_ends(yard: Yard) -> None:
    """Not before; and when it is back it can still speak of what it has."""

    async def scene() -> None:
        lost, other = await yard.worker(), await yard.worker(handled_cleanup_kinds=KINDS[1:])
        await yard.leave()
        message = await lost.message()
        await lost.connection.close()
        back = await yard.worker()
        yard.advance(20)
        assert (await back.say("renew", message))["status"] == "accepted"
        yard.advance(29)
        await back.nothing()
        await other.nothing()
        yard.advance(1)
        again = await back.message()
        assert again["payload"]["delivery_count"] == 2
        assert await other.say("ack", message) == NOT_ITS_OWN
        assert await other.say("ack", again) == ACCEPTED

    asyncio.run(scene())


def test_a_silent_worker_has_three_leases(yard: Yard, store: Store) -> None:
    """Then the message is given up."""

    async def scene() -> None:
        worker = await yard.worker()
        await yard.leave()
        for count in (1, 2, 3):
            message = await worker.message()
            assert message["payload"]["delivery_count"] == count
            yard.advance(30)
        await worker.nothing()
        assert await worker.say("ack", message) == result("expired", "reservation_expired")
        assert await asyncio.to_thread(cleanup.run_once, store, get_settings()) == 1
        assert await worker.say("ack", message) == result("not_found", "message_not_found")

    asyncio.run(scene())


def test_g14_a_worker_has_no_more_messages_than_it_asked_for(yard: Yard) -> None:
    """Also when it comes back over another connection; what it has done makes room."""

    async def scene() -> None:
        runs = [str(await yard.leave()) for _ in range(3)]
        me = {"max_cleanup_concurrency": 2, "consumer_id": CONSUMER}
        worker = await yard.worker(**me)
        assert worker.ready["effective_max_cleanup_concurrency"] == 2
        first, second = [await worker.message() for _ in range(2)]
        await worker.nothing()
        await worker.connection.close()
        back = await yard.worker(**me)
        await back.nothing()
        assert await back.say("ack", second) == ACCEPTED
        third = await back.message()
        assert [one["payload"]["target"]["flow_run_id"] for one in (first, second, third)] == runs

    asyncio.run(scene())


@pytest.mark.parametrize(
    "offer",
    [
        {"requested_capabilities": CAPABILITIES[:2], "handled_cleanup_kinds": []},
        {"handled_cleanup_kinds": []},
        {"max_cleanup_concurrency": 0},
    ],
)
def test_a_worker_that_cannot_clear_up_is_handed_nothing(yard: Yard, offer: dict[str, Any]) -> None:
    """Whether it does not ask, handles no kind, or wants none at once; nor is it heard."""

    async def scene() -> None:
        worker = await yard.worker(**offer)
        await yard.leave()
        assert worker.ready["accepted_capabilities"] == CAPABILITIES[:2]
        assert worker.ready["rejected_capabilities"] == offer.get("requested_capabilities", CAPABILITIES)[2:]
        assert worker.ready["effective_max_cleanup_concurrency"] == 0
        await worker.nothing()
        able = await yard.worker()
        assert able.ready["accepted_capabilities"] == CAPABILITIES
        assert able.ready["effective_max_cleanup_concurrency"] == 1
        message = await able.message()
        assert await worker.say("ack", message) == NOT_GRANTED

    asyncio.run(scene())


def test_s5_workers_of_another_pool_have_no_part_in_it(yard: Yard) -> None:
    """They are handed nothing, and are not heard."""

    async def scene() -> None:
        other = await yard.worker("another")
        await yard.leave()
        await other.nothing()
        message = await (await yard.worker()).message()
        assert await other.say("ack", message) == result("unauthorized", "work_pool_mismatch")

    asyncio.run(scene())
