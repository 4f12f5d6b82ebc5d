"""The websocket on which servers of background tasks are handed runs: `/task_runs/subscriptions/scheduled`.

    client  {"type": "subscribe", "keys": ["<task key>", ...], "client_id": "<name>"}
    server  a task run
    client  {"type": "ack"} for the next one, or {"type": "quit"}

One run at a time is on its way. What was not acknowledged goes back, before all others. What was, stays the client's
while it is connected; the runs themselves wait in the database, see `headrace.server.operations.task_deliveries`.
"""

import asyncio
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct
from starlette.websockets import WebSocket

from headrace._internal.ids import uuid7
from headrace.schemas.task_runs import TaskRun
from headrace.server.http.handing_out import hand_out
from headrace.server.http.sockets import NOT_ALLOWED, REFUSED, Closing, Doorkeeper, Handler, heard, send, until_first
from headrace.server.operations import task_workers
from headrace.server.operations.task_deliveries import LEASE, WAITING, give_back, keep, next_due, take
from headrace.server.store.caller import Caller
from headrace.server.store.transaction import Store, Tx

NO_SUBSCRIPTION = 4001
MOST_KEYS = 1_000
ACCESS = "runs:write"


class Subscribe(Struct):
    """Which tasks a client serves, and what it calls itself."""

    type: Literal["subscribe"]
    keys: list[str]
    client_id: str


class Said(Struct):
    """What a client says later."""

    type: Literal["ack", "quit"]


_subscription, _said = msgspec.json.Decoder(Subscribe).decode, msgspec.json.Decoder(Said).decode


def task_scheduling(store: Store, doorkeeper: Doorkeeper) -> Handler:
    """Make the handler of the socket."""

    async def talk(socket: WebSocket, caller: Caller) -> None:
        if caller.work_pool is not None:  # S5: background tasks belong to no pool
            raise Closing(REFUSED, NOT_ALLOWED)
        await _Server(socket, store, await _subscribed(socket)).run()

    return doorkeeper.handler(talk, ACCESS)


async def _subscribed(socket: WebSocket) -> Subscribe:
    try:
        wanted = _subscription(await heard(socket))
    except (msgspec.DecodeError, RecursionError):
        raise Closing(NO_SUBSCRIPTION, "expected a subscription: type, keys, client_id") from None
    if not (0 < len(wanted.keys) <= MOST_KEYS and wanted.client_id):
        raise Closing(NO_SUBSCRIPTION, "a subscription needs keys and a client_id")
    return wanted


class _Server:
    """One client that serves tasks."""

    def __init__(self, socket: WebSocket, store: Store, wanted: Subscribe) -> None:
        self._socket, self._store = socket, store
        self._keys, self._name = list(dict.fromkeys(wanted.keys)), wanted.client_id
        self._id: UUID = uuid7()
        self._on_its_way: asyncio.Future[TaskRun | None] | None = None
        self._acknowledged = asyncio.Event()

    async def run(self) -> None:
        """Hand runs out until the client has left."""
        await self._store.write_soon(self._note)
        try:
            giving = hand_out(self._store, WAITING, lambda tx: next_due(tx, self._keys), self._hand_one)
            await until_first(self._hear(), giving, self._keep())
        finally:
            run = None if self._on_its_way is None else await self._on_its_way
            await self._store.write_soon(lambda tx: self._leave(tx, run))

    def _note(self, tx: Tx) -> None:
        task_workers.note(tx, self._id, self._name, self._keys)

    def _leave(self, tx: Tx, on_its_way: TaskRun | None) -> None:
        task_workers.forget(tx, self._id)
        if on_its_way is not None:
            give_back(tx, on_its_way.id, self._id)

    async def _hear(self) -> None:
        while True:
            try:
                said = _said(await heard(self._socket)).type
            except (msgspec.DecodeError, RecursionError):
                raise Closing(NO_SUBSCRIPTION, "expected an ack, or quit") from None
            if said == "quit":
                return
            self._acknowledged.set()

    async def _hand_one(self) -> bool:
        run = await self._take()
        if run is None:
            return False
        self._acknowledged.clear()
        await send(self._socket, run)
        await self._acknowledged.wait()
        self._on_its_way = None
        return True

    async def _take(self) -> TaskRun | None:
        """Take a run; should this client leave meanwhile, it is still known what was taken."""
        taking = self._store.write_soon(lambda tx: take(tx, self._keys, self._id))
        self._on_its_way = asyncio.ensure_future(taking)
        return await asyncio.shield(self._on_its_way)

    async def _keep(self) -> None:
        """Renew the leases of what the client has, and of the client itself."""

        def renew(tx: Tx) -> None:
            self._note(tx)
            keep(tx, self._id)

        while True:
            await asyncio.sleep(LEASE.total_seconds() / 3)
            await self._store.write_soon(renew)
