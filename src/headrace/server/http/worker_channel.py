"""The channel of Prefect's workers: `/work_pools/{name}/workers/connect`.

    client  worker.hello.v1
    server  worker.ready.v1, with the pool as it is
    client  worker.heartbeat.v1, now and then
    server  work_pool.snapshot.v1, when the pool has changed
    server  cleanup.message.v1, to a worker that asked for it: what is to be cleared away
    client  cleanup.ack.v1, cleanup.release.v1 or cleanup.renew.v1, about such a message
    server  cleanup.operation_result.v1, the answer to that

Runs are not told of here: these workers ask for them over HTTP. Clean-up waits in the database, see
`headrace.server.operations.cleanups`; what a worker has that leaves is handed out again when the lease has ended. A
worker that is told to come again does; after another close it uses HTTP.
"""

import asyncio
import contextlib
from typing import Any

from sqlalchemy import Row, select
from starlette.websockets import WebSocket

from headrace.exceptions import Forbidden, HeadraceError, ObjectNotFound, ValidationFailed
from headrace.schemas.work_pools import WorkerHeartbeat, WorkPool, WorkPoolCreate, WorkPoolUpdate
from headrace.server.events import hints
from headrace.server.http.handing_out import hand_out
from headrace.server.http.sockets import (
    NOT_ALLOWED,
    REFUSED,
    TROUBLE,
    UNREADABLE,
    Closing,
    Doorkeeper,
    Handler,
    heard,
    send,
    until_first,
)
from headrace.server.http.worker_frames import (
    CLEANUP,
    REQUIRED,
    VERSION,
    CleanupAck,
    CleanupFrame,
    CleanupRelease,
    CleanupRenew,
    Heartbeat,
    Hello,
    HelloPayload,
    ReadyPayload,
    ResolvedQueue,
    SnapshotPayload,
    framed,
)
from headrace.server.operations import cleanups
from headrace.server.operations.arguments import BodyReader
from headrace.server.operations.work_pools import (
    create_work_pool,
    pool_topic,
    read_work_pool,
    update_work_pool,
    worker_heartbeat,
)
from headrace.server.rules.cleanup import Kind
from headrace.server.store.caller import Caller
from headrace.server.store.long_lists import among
from headrace.server.store.tables import WORK_QUEUE
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Settings

HELLO_SECONDS = 10.0
LOOK_AGAIN = 5.0
"""Seconds after which the pool is looked at without a hint: another server process may have changed it."""
GATHER = 0.05
"""Seconds between two snapshots at least."""
_TOLD = ("base_job_template", "concurrency_limit", "is_paused", "storage_configuration")

NO_ENTRY = (REFUSED, NOT_ALLOWED)
UNKNOWN_VERSION = (REFUSED, "unsupported_version")
UNFIT = (UNREADABLE, "protocol_error")
NOT_STORED = (TROUBLE, "heartbeat_persistence_failed")
LATER = (TROUBLE, "transient_server_error")
NOT_GRANTED: cleanups.Answer = ("unauthorized", "cleanup_delivery_not_accepted", None)


def worker_channel(store: Store, doorkeeper: Doorkeeper, settings: Settings) -> Handler:
    """Make the handler of the socket."""
    limits = settings.server.limits
    reader = BodyReader(Hello | Heartbeat | CleanupAck | CleanupRelease | CleanupRenew, limits.json_depth)

    async def talk(socket: WebSocket, caller: Caller) -> None:
        name = socket.path_params["name"]
        if caller.work_pool not in (None, name):  # S5
            raise Closing(*NO_ENTRY)
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await _next_frame(socket, reader)
        except TimeoutError:
            raise Closing(*UNFIT) from None
        if not isinstance(hello, Hello):
            raise Closing(*UNFIT)
        await _Channel(socket, store, reader, name, hello.payload, settings).run(caller)

    return doorkeeper.handler(talk, "work_pools:write", old_clients=False, frame=limits.body_bytes)


async def _next_frame(socket: WebSocket, reader: BodyReader) -> Any:
    try:
        return reader.read(await heard(socket))
    except ValidationFailed:
        raise Closing(*UNFIT) from None


class _Channel:
    """One worker that has said hello."""

    def __init__(
        self, socket: WebSocket, store: Store, reader: BodyReader, name: str, hello: HelloPayload, settings: Settings
    ) -> None:
        self._socket, self._store, self._reader = socket, store, reader
        self._name, self._hello, self._settings = name, hello, settings.server.worker_channel
        self._telling = asyncio.Lock()
        self._sequence = 1
        self._told: WorkPool

    async def run(self, caller: Caller) -> None:
        """Answer the hello, and go on until the worker leaves."""
        hello = self._hello
        if VERSION not in hello.supported_channel_versions:
            raise Closing(*UNKNOWN_VERSION)
        offers = hello.handled_cleanup_kinds or hello.max_cleanup_concurrency
        if not {*REQUIRED, *([CLEANUP] if offers else [])}.issubset(hello.requested_capabilities):
            raise Closing(*UNFIT)
        try:
            self._told, queues = await self._store.write_soon(lambda tx: _enter(tx, caller, self._name, hello))
        except (Forbidden, ObjectNotFound):  # without a pool, a worker asks by HTTP until there is one
            raise Closing(*NO_ENTRY) from None
        except ValidationFailed:
            raise Closing(*UNFIT) from None
        except HeadraceError:
            raise Closing(*LATER) from None
        with hints.subscribe(pool_topic(self._told.id), capacity=1) as news:
            await send(self._socket, framed("worker.ready.v1", _ready(hello, self._told, queues)))
            cleaning = [self._hand_out_cleanup(queues)] if hello.most_cleanups else []
            await until_first(self._hear(), self._watch(news), *cleaning)

    async def _hear(self) -> None:
        while True:
            frame = await _next_frame(self._socket, self._reader)
            if isinstance(frame, CleanupFrame):
                await self._answer(frame)
                continue
            said, hello = frame.payload, self._hello
            if isinstance(frame, Hello) or (said.consumer_id, said.worker_name) != (
                hello.consumer_id,
                hello.worker_name,
            ):
                raise Closing(*UNFIT)
            sign = WorkerHeartbeat(name=said.worker_name, heartbeat_interval_seconds=said.heartbeat_interval_seconds)
            try:
                await self._store.write_soon(lambda tx, sign=sign: worker_heartbeat(tx, self._name, sign))  # type: ignore[misc]
            except HeadraceError:
                raise Closing(*NOT_STORED) from None
            await self._tell("heartbeat_reconciliation")

    async def _watch(self, news: hints.Subscription) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await anext(news)
            await self._tell("work_pool_updated")
            await asyncio.sleep(GATHER)

    async def _tell(self, reason: str) -> None:
        """Send the pool when it is not as it was told last."""
        async with self._telling:
            try:
                pool = await self._store.read_soon(lambda tx: read_work_pool(tx, self._name))
            except ObjectNotFound:
                pool = None
            if pool is None or pool.id != self._told.id:
                await self._send("work_pool_deleted")
                raise Closing(*LATER)
            if any(getattr(pool, name) != getattr(self._told, name) for name in _TOLD):
                self._told = pool
                await self._send(reason)

    async def _send(self, reason: str) -> None:
        self._sequence += 1
        payload = SnapshotPayload(snapshot_sequence=self._sequence, reason=reason, work_pool=self._told)
        await send(self._socket, framed("work_pool.snapshot.v1", payload))

    async def _hand_out_cleanup(self, queues: list[ResolvedQueue]) -> None:
        hello, settings = self._hello, self._settings
        ids, pool_id = [queue.id for queue in queues], self._told.id
        # a worker that lost its connection and comes back has the same id, and no more room than before
        worker = cleanups.Cleaner(hello.consumer_id, pool_id, ids, hello.handled_cleanup_kinds, hello.most_cleanups)

        async def hand_one() -> bool:
            row = await self._store.write_soon(lambda tx: cleanups.take(tx, worker, settings))
            if row is not None:
                await send(self._socket, framed("cleanup.message.v1", _message(row)))
            return row is not None

        await hand_out(
            self._store, cleanups.topic(pool_id), lambda tx: cleanups.next_due(tx, worker, settings), hand_one
        )

    async def _answer(self, frame: CleanupFrame) -> None:
        """Carry out what the worker says about a message, and tell it what came of it."""
        said, operation = frame.payload, frame.operation
        id, token, pool_id = said.message_id, said.reservation_token, self._told.id
        came = NOT_GRANTED
        if self._hello.most_cleanups:
            try:
                came = await self._store.write_soon(
                    lambda tx: cleanups.answer(tx, pool_id, operation, id, token, self._settings)
                )
            except HeadraceError as error:
                came = "error", str(error), None
        result = dict(zip(("status", "reason", "lease_expires_at"), came, strict=True))
        about = {"request_frame_id": frame.id, "message_id": id, "operation": operation, "detail": None}
        await send(self._socket, framed("cleanup.operation_result.v1", about | result))


def _enter(tx: Tx, caller: Caller, name: str, hello: HelloPayload) -> tuple[WorkPool, list[ResolvedQueue]]:
    """Note the worker, and make what it needs."""
    tx.caller = caller
    template = hello.default_base_job_template
    try:
        pool = read_work_pool(tx, name)
    except ObjectNotFound:
        if not hello.create_pool_if_not_found or caller.work_pool is not None:
            raise
        pool = create_work_pool(tx, WorkPoolCreate(name=name, type=hello.worker_type, base_job_template=template))
    if template and not pool.base_job_template:
        update_work_pool(tx, name, WorkPoolUpdate(base_job_template=template))
    sign = WorkerHeartbeat(name=hello.worker_name, heartbeat_interval_seconds=hello.heartbeat_interval_seconds)
    worker_heartbeat(tx, name, sign)
    named = select(WORK_QUEUE.c.id, WORK_QUEUE.c.name).where(WORK_QUEUE.c.work_pool_id == pool.id)
    if hello.work_queue_names:
        named = named.where(among(WORK_QUEUE.c.name, hello.work_queue_names))
    queues = [ResolvedQueue(id=row.id, name=row.name) for row in tx.execute(named.order_by(WORK_QUEUE.c.name))]
    return read_work_pool(tx, name), queues


def _ready(hello: HelloPayload, pool: WorkPool, queues: list[ResolvedQueue]) -> ReadyPayload:
    asked = hello.requested_capabilities
    granted = (*REQUIRED, CLEANUP) if hello.most_cleanups else REQUIRED
    return ReadyPayload(
        consumer_id=hello.consumer_id,
        effective_heartbeat_interval_seconds=hello.heartbeat_interval_seconds,
        accepted_capabilities=[one for one in asked if one in granted],
        rejected_capabilities=[one for one in asked if one not in granted],
        effective_max_cleanup_concurrency=hello.most_cleanups,
        resolved_work_queues=queues,
        initial_snapshot=SnapshotPayload(snapshot_sequence=1, reason="initial", work_pool=pool),
    )


def _message(row: Row[Any]) -> dict[str, Any]:
    target = {"flow_run_id": row.flow_run_id, "infrastructure_pid": row.infrastructure_pid}
    if row.kind == Kind.PENDING_CLAIM:
        target |= {"claim_id": row.claim_id, "execution_id": None}
    message = {"message_id": row.id, "kind": row.kind, "target": target, "work_queue_id": row.work_queue_id, "data": {}}
    token = cleanups.reservation(row).token
    return message | {"reservation_token": token, "lease_expires_at": row.due, "delivery_count": row.deliveries}
