"""Clean-up on the worker channel: messages that are handed to a worker, and what it says about them."""

from typing import Any

from sqlalchemy import Row
from starlette.websockets import WebSocket

from headrace.exceptions import HeadraceError
from headrace.server.http.handing_out import hand_out
from headrace.server.http.sockets import send
from headrace.server.http.worker_frames import (
    CleanupMessage,
    CleanupOperation,
    MessagePayload,
    OperationResult,
    OperationResultPayload,
    framed,
)
from headrace.server.operations import cleanups
from headrace.server.operations.cleanups import Answer, Cleaner
from headrace.server.rules.cleanup import Kind, Status, token_of
from headrace.server.store.transaction import Store
from headrace.settings.server import ServerWorkerChannelSettings

_NOT_GRANTED = Answer(Status.UNAUTHORIZED, "cleanup_delivery_not_accepted")


class CleanUp:
    """What a channel has to do with clean-up.

    Args:
        socket: of the worker.
        store: the database.
        worker: what it can clear away, and how much at once.
        settings: how long and how often messages are handed out.
    """

    def __init__(self, socket: WebSocket, store: Store, worker: Cleaner, settings: ServerWorkerChannelSettings) -> None:
        self._socket, self._store, self._worker, self._settings = socket, store, worker, settings

    async def hand_out(self) -> None:
        """Hand messages to the worker, never more at once than it may have; for ever."""
        worker, settings = self._worker, self._settings

        async def hand_one() -> bool:
            row = await self._store.write_soon(lambda tx: cleanups.take(tx, worker, settings))
            if row is not None:
                await send(self._socket, framed(CleanupMessage, _message(row)))
            return row is not None

        topic = cleanups.topic(worker.pool_id)
        await hand_out(self._store, topic, lambda tx: cleanups.next_due(tx, worker, settings), hand_one)

    async def answer(self, frame: CleanupOperation) -> None:
        """Carry out what the worker says about a message, and tell it what came of it."""
        said, pool_id, settings = frame.payload, self._worker.pool_id, self._settings
        answer = _NOT_GRANTED
        if self._worker.most:
            try:
                answer = await self._store.write_soon(
                    lambda tx: cleanups.answer(
                        tx, pool_id, frame.operation, said.message_id, said.reservation_token, settings
                    )
                )
            except HeadraceError as error:
                answer = Answer(Status.ERROR, str(error))
        payload = OperationResultPayload(
            request_frame_id=frame.id,
            message_id=said.message_id,
            operation=frame.operation,
            status=answer.status,
            reason=answer.reason,
            lease_expires_at=answer.lease_expires_at,
        )
        await send(self._socket, framed(OperationResult, payload))


def _message(row: Row[Any]) -> MessagePayload:
    target = {"flow_run_id": row.flow_run_id, "infrastructure_pid": row.infrastructure_pid}
    if row.kind == Kind.PENDING_CLAIM:
        target |= {"claim_id": row.claim_id, "execution_id": None}
    return MessagePayload(
        message_id=row.id,
        reservation_token=token_of(row.holder, row.deliveries),
        lease_expires_at=row.due,
        delivery_count=row.deliveries,
        work_queue_id=row.work_queue_id,
        kind=row.kind,
        target=target,
    )
