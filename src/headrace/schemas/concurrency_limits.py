"""Concurrency limits: how many things may happen at once; and the calls about those of tags."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint


class ConcurrencyLimitStrategy(StrEnum):
    """What becomes of a run that finds no slot: it waits, or it is cancelled."""

    ENQUEUE = "ENQUEUE"
    CANCEL_NEW = "CANCEL_NEW"


class ConcurrencyOptions(Struct, kw_only=True):
    """How a deployment's limit works; a run that holds a slot has `grace_period_seconds` to start."""

    collision_strategy: ConcurrencyLimitStrategy
    grace_period_seconds: Annotated[int, Meta(le=86400, ge=60)] | None = None


class GlobalConcurrencyLimit(Struct, kw_only=True):
    """A limit as it is stored, and how much of it is in use."""

    active: bool = True
    active_slots: int
    created: datetime | None
    id: UUID
    limit: int
    name: str
    slot_decay_per_second: float = 2.0
    updated: datetime | None


class ConcurrencyLimitCreate(Struct, kw_only=True):
    """A limit for the task runs of a tag; one that is there is changed."""

    concurrency_limit: Annotated[int, Meta(ge=0)]
    tag: str


class ConcurrencyLimit(Struct, kw_only=True):
    """The limit of a tag, and the task runs that hold its slots."""

    active_slots: list[UUID] = []
    concurrency_limit: int
    created: datetime | None
    id: UUID
    tag: str
    updated: datetime | None


class MinimalConcurrencyLimitResponse(Struct, kw_only=True):
    """A limit of which slots were taken or given back."""

    id: UUID
    limit: int
    name: str


class ReadConcurrencyLimits(Struct, kw_only=True):
    """Which part of the list of limits to read."""

    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


class ChangeTagSlots(Struct, kw_only=True):
    """The tags of whose limits a task run takes a slot, or gives it back."""

    names: list[str]
    task_run_id: UUID


class ResetConcurrencyLimit(Struct, kw_only=True):
    """The task runs that hold the slots from now on; nobody, unless given."""

    slot_override: list[UUID] | None = None


Minimal = list[MinimalConcurrencyLimitResponse]
_ROOT = "/concurrency_limits"

CREATE_CONCURRENCY_LIMIT = Endpoint(
    "POST", f"{_ROOT}/", body=ConcurrencyLimitCreate, returns=ConcurrencyLimit, status=201, existing=200
)
DECREMENT_CONCURRENCY_LIMITS_V1 = Endpoint("POST", f"{_ROOT}/decrement", body=ChangeTagSlots, returns=Minimal)
READ_CONCURRENCY_LIMITS = Endpoint(
    "POST", f"{_ROOT}/filter", body=ReadConcurrencyLimits, returns=list[ConcurrencyLimit]
)
INCREMENT_CONCURRENCY_LIMITS_V1 = Endpoint(
    "POST", f"{_ROOT}/increment", body=ChangeTagSlots, returns=Minimal, refusals=(423,), waits=True
)
DELETE_CONCURRENCY_LIMIT_BY_TAG = Endpoint("DELETE", f"{_ROOT}/tag/{{tag}}", returns=NoneType)
READ_CONCURRENCY_LIMIT_BY_TAG = Endpoint("GET", f"{_ROOT}/tag/{{tag}}", returns=ConcurrencyLimit)
RESET_CONCURRENCY_LIMIT_BY_TAG = Endpoint(
    "POST", f"{_ROOT}/tag/{{tag}}/reset", body=ResetConcurrencyLimit, returns=NoneType
)
DELETE_CONCURRENCY_LIMIT = Endpoint("DELETE", f"{_ROOT}/{{id}}", returns=NoneType)
READ_CONCURRENCY_LIMIT = Endpoint("GET", f"{_ROOT}/{{id}}", returns=ConcurrencyLimit)
