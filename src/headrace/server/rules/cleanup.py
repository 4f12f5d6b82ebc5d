"""Which clean-up a run leaves to the workers of its pool, and what comes of what a worker says about it."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from msgspec import Struct

from headrace.schemas.states import StateType
from headrace.server.rules.change import FlowRunNow

Operation = Literal["ack", "release", "renew"]
ACCEPTED, DEAD_LETTERED, TOO_OFTEN = "accepted", "dead_lettered", "max_delivery_attempts_reached"


class Kind(StrEnum):
    """What is to be cleared away, by why the server took it from its worker."""

    CANCELLING_TIMEOUT = "cancelling_timeout_teardown.v1"
    PENDING_CLAIM = "pending_claim_teardown.v1"


_LEFT = {StateType.CANCELLING: Kind.CANCELLING_TIMEOUT, StateType.PENDING: Kind.PENDING_CLAIM}


def left_behind(run: FlowRunNow) -> Kind | None:
    """Which clean-up a run leaves that the server moves on because its worker did not.

    A run with a lease leaves none: its holder learns when it renews that the run is no longer its own, and stops.
    """
    return None if run.type is None or run.lease_until is not None else _LEFT.get(run.type)


class Reservation(Struct, frozen=True):
    """How a message stands: handed out so often, the last time to `holder`, which has it until `due`."""

    work_pool_id: UUID
    deliveries: int
    holder: UUID | None
    due: datetime

    @property
    def token(self) -> str:
        """What the holder has to name: another token with each delivery."""
        return f"{self.holder}.{self.deliveries}"


def judge(
    operation: Operation, token: str, found: Reservation | None, *, pool_id: UUID, now: datetime, most: int
) -> tuple[str, str | None]:
    """What comes of an operation on a message.

    Args:
        operation: done with it, cannot do it, or still at it.
        token: the reservation that the worker names.
        found: the message, if there is one.
        pool_id: the pool of the worker.
        now: the moment of the transaction.
        most: how often a message is handed out.

    Returns:
        How it came out, and why if the operation is not accepted, in the protocol's words.
    """
    if found is None:
        return "not_found", "message_not_found"
    if found.work_pool_id != pool_id:  # S5
        return "unauthorized", "work_pool_mismatch"
    if found.holder is None:
        return "not_current", "no_active_reservation"
    if found.token != token:
        return "invalid_token", "reservation_token_mismatch"
    if found.due <= now:
        return "expired", "reservation_expired"
    if operation == "release" and found.deliveries >= most:
        return DEAD_LETTERED, TOO_OFTEN
    return ACCEPTED, None
