"""The channel of Prefect's workers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from headrace._internal.ids import uuid7
from headrace.schemas.work_pools import ReadWorkers, WorkPoolCreate, WorkPoolUpdate
from headrace.server.http import worker_channel
from headrace.server.operations.work_pools import (
    create_work_pool,
    delete_work_pool,
    read_work_pool,
    read_workers,
    update_work_pool,
)
from headrace.server.store.transaction import Store
from tests.support.serving import serving
from tests.support.talking import close_code, entered, heard, opened, say
from tests.support.worker_frames import CAPABILITIES, CONSUMER, KINDS, TEMPLATE, framed, heartbeat, hello

MESSAGE = {"message_id": CONSUMER, "reservation_token": "x"}


def workers(store: Store) -> list[str]:
    """The workers of the pool."""
    return [one.name for one in store.read(lambda tx: read_workers(tx, "p", ReadWorkers()))]


@pytest.fixture
def server(store: Store) -> Iterator[str]:
    """The URL of the channel of the pool `p`; the store is on each database."""
    store.write(lambda tx: create_work_pool(tx, WorkPoolCreate(name="p", type="process")))
    with serving(store, operations={}) as url:
        yield url + "/work_pools/p/workers/connect"


def test_a_hello_is_answered_with_the_pool(server: str, store: Store) -> None:
    """The worker is noted, an empty template is filled, clean-up is not granted to who can clear nothing away."""

    async def scene() -> dict[str, Any]:
        connection = await entered(server, hello())
        ready: dict[str, Any] = await heard(connection)
        await connection.close()
        return ready

    ready = asyncio.run(scene())
    payload, snapshot = ready["payload"], ready["payload"].pop("initial_snapshot")
    pool = store.read(lambda tx: read_work_pool(tx, "p"))

    assert ready["type"] == "worker.ready.v1"
    assert payload == {
        "consumer_id": CONSUMER, "worker_id": None, "selected_channel_version": "work_pool_worker_channel.v1",
        "effective_heartbeat_interval_seconds": 30, "accepted_capabilities": CAPABILITIES[:2],
        "rejected_capabilities": CAPABILITIES[2:], "effective_max_cleanup_concurrency": 0,
        "resolved_work_queues": [{"id": str(pool.default_queue_id), "name": "default"}],
    }  # fmt: skip
    assert (snapshot["snapshot_sequence"], snapshot["reason"]) == (1, "initial")
    assert snapshot["work_pool"]["base_job_template"] == pool.base_job_template == TEMPLATE
    assert snapshot["work_pool"]["id"] == str(pool.id)
    assert snapshot["work_pool"]["status"] == "READY"
    assert workers(store) == ["w"]


def test_changes_of_the_pool_are_told(server: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change comes at once, one that was not hinted at comes with a heartbeat, and the end is told."""
    monkeypatch.setattr(worker_channel, "LOOK_AGAIN", 1000)

    async def scene() -> list[Any]:
        connection = await entered(server, hello())
        await heard(connection)
        told = []
        await store.write_soon(lambda tx: update_work_pool(tx, "p", WorkPoolUpdate(description="told to nobody")))
        await store.write_soon(lambda tx: update_work_pool(tx, "p", WorkPoolUpdate(is_paused=True)))
        told.append((await heard(connection))["payload"])
        await asyncio.sleep(2 * worker_channel.GATHER)
        with monkeypatch.context() as patched:
            patched.setattr("headrace.server.events.hints.publish", lambda *_: None)
            await store.write_soon(lambda tx: update_work_pool(tx, "p", WorkPoolUpdate(concurrency_limit=3)))
        await say(connection, heartbeat())
        told.append((await heard(connection))["payload"])
        await store.write_soon(lambda tx: delete_work_pool(tx, "p"))
        told.append((await heard(connection))["payload"])
        assert await close_code(connection) == 1011
        return told

    told = asyncio.run(scene())
    pools = [one["work_pool"] for one in told]
    assert [(one["snapshot_sequence"], one["reason"]) for one in told] == [
        (2, "work_pool_updated"), (3, "heartbeat_reconciliation"), (4, "work_pool_deleted"),
    ]  # fmt: skip
    assert [(pool["is_paused"], pool["concurrency_limit"]) for pool in pools] == [(True, None), (True, 3), (True, 3)]


@pytest.mark.parametrize(("may_create", "code"), [(True, None), (False, 1008)])
def test_a_pool_that_is_not_there(server: str, store: Store, may_create: bool, code: int | None) -> None:
    """It is made if the worker asks for that; else the worker is turned away."""
    url = server.replace("/p/", "/another/")

    async def scene() -> Any:
        connection = await entered(url, hello(create_pool_if_not_found=may_create))
        if code is not None:
            return await close_code(connection)
        return (await heard(connection))["payload"]["initial_snapshot"]["work_pool"]["type"]

    assert asyncio.run(scene()) == ("process" if code is None else code)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([hello(more=1)], 1002),
        ([{**hello(), "more": 1}], 1002),
        ([heartbeat()], 1002),
        ([[]], 1002),
        (["x"], 1002),
        ([hello(worker_name="")], 1002),
        ([hello(heartbeat_interval_seconds=0)], 1002),
        ([hello(requested_capabilities=CAPABILITIES[:1])], 1002),
        ([hello(supported_channel_versions=["another"])], 1008),
        ([hello(), hello()], 1002),
        ([hello(), heartbeat(worker_name="other")], 1002),
        ([hello(), heartbeat(consumer_id=str(uuid7()))], 1002),
        ([hello(), framed("cleanup.ack.v1", {"message_id": CONSUMER})], 1002),
        (
            [hello(), framed("cleanup.release.v1", {**MESSAGE, "reason": ""})],
            1002,
        ),
        ([hello(), framed("cleanup.release.v1", {**MESSAGE, "reason": "x", "more": 1})], 1002),
        ([hello(), framed("cleanup.message.v1", {})], 1002),
        ([hello(handled_cleanup_kinds=["another"])], 1002),
        ([hello(handled_cleanup_kinds=KINDS, requested_capabilities=CAPABILITIES[:2])], 1002),
        ([hello(max_cleanup_concurrency=1, requested_capabilities=CAPABILITIES[:2])], 1002),
        ([hello(default_base_job_template={"variables": 7})], 1002),
    ],
)
def test_s4_what_the_protocol_does_not_know_closes(sqlite_store: Store, frames: list[Any], code: int) -> None:
    """Unknown fields, frames out of order and others' heartbeats are protocol errors; a strange version is refused."""
    sqlite_store.write(lambda tx: create_work_pool(tx, WorkPoolCreate(name="p", type="process")))

    async def scene(url: str) -> int:
        connection = await entered(url + "/work_pools/p/workers/connect", *frames)
        for _ in frames[1:]:
            await heard(connection)
        return await close_code(connection)

    with serving(sqlite_store, operations={}) as url:
        assert asyncio.run(scene(url)) == code


def test_old_clients_are_turned_away(server: str) -> None:
    """Without the subprotocol the upgrade is refused, so that a worker uses HTTP."""

    async def scene() -> int:
        with pytest.raises(InvalidStatus) as caught:
            await opened(server, subprotocols=None)
        return caught.value.response.status_code

    assert asyncio.run(scene()) == 403
