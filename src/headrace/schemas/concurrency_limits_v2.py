"""Concurrency limits by name, the leases of their slots, and the calls about them."""

from datetime import datetime
from enum import StrEnum
from types import NoneType
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.concurrency_limits import (
    GlobalConcurrencyLimit,
    Minimal,
    MinimalConcurrencyLimitResponse,
    ReadConcurrencyLimits,
)
from headrace.schemas.endpoint import Endpoint

LimitName = Annotated[str, Meta(pattern="^[^/%&><]+$")]
Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(ge=0)]
LeaseSeconds = Annotated[float, Meta(ge=60, le=86400)]
Slots = Annotated[int, Meta(gt=0)]


class LimitMode(StrEnum):
    """Whether slots are held and given back, or come back by themselves."""

    CONCURRENCY = "concurrency"
    RATE_LIMIT = "rate_limit"


class HolderType(StrEnum):
    """What may hold slots."""

    FLOW_RUN = "flow_run"
    TASK_RUN = "task_run"
    DEPLOYMENT = "deployment"


class ConcurrencyLeaseHolder(Struct, kw_only=True):
    """Who holds slots."""

    id: UUID
    type: HolderType


class ConcurrencyLimitV2Create(Struct, kw_only=True):
    """A limit to be made."""

    active: bool = True
    active_slots: Count = 0
    denied_slots: Count = 0
    limit: Count
    name: LimitName
    slot_decay_per_second: Rate = 0


class ConcurrencyLimitV2(Struct, kw_only=True):
    """A limit that was made; `denied_slots` is how many are waited for."""

    active: bool = True
    active_slots: int = 0
    avg_slot_occupancy_seconds: float = 2.0
    created: datetime | None
    denied_slots: int = 0
    id: UUID
    limit: int
    name: LimitName
    slot_decay_per_second: float = 0
    updated: datetime | None


class ConcurrencyLimitV2Update(Struct, kw_only=True):
    """What to change of a limit; what is left out stays. `active_slots` takes the place of all its leases."""

    active: bool | None = None
    active_slots: Count | None = None
    denied_slots: Count | None = None
    limit: Count | None = None
    name: LimitName | None = None
    slot_decay_per_second: Rate | None = None


class IncrementSlots(Struct, kw_only=True):
    """Slots to take of all these limits at once; names of no limit are passed over."""

    create_if_missing: bool | None = None
    mode: LimitMode = LimitMode.CONCURRENCY
    names: list[str]
    slots: Slots


class IncrementSlotsWithLease(Struct, kw_only=True):
    """Slots to take of all these limits at once, until a lease ends that has to be renewed."""

    holder: ConcurrencyLeaseHolder | None = None
    lease_duration: LeaseSeconds = 300
    mode: LimitMode = LimitMode.CONCURRENCY
    names: list[str]
    slots: Slots


class ConcurrencyLimitWithLeaseResponse(Struct, kw_only=True):
    """The lease of the slots that were taken."""

    lease_id: UUID
    limits: list[MinimalConcurrencyLimitResponse]


class DecrementSlots(Struct, kw_only=True):
    """Slots without a lease to give back to each of these limits, and how long they were used."""

    create_if_missing: bool | None = None
    names: list[str]
    occupancy_seconds: Annotated[float, Meta(gt=0)] | None = None
    slots: Slots


class DecrementSlotsWithLease(Struct, kw_only=True):
    """The lease whose slots to give back."""

    lease_id: UUID


class RenewLease(Struct, kw_only=True):
    """How long a lease is to last from now on."""

    lease_duration: LeaseSeconds = 300


_ROOT = "/v2/concurrency_limits"

CREATE_CONCURRENCY_LIMIT_V2 = Endpoint(
    "POST", f"{_ROOT}/", body=ConcurrencyLimitV2Create, returns=ConcurrencyLimitV2, status=201
)
BULK_DECREMENT_ACTIVE_SLOTS = Endpoint("POST", f"{_ROOT}/decrement", body=DecrementSlots, returns=Minimal)
BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE = Endpoint(
    "POST", f"{_ROOT}/decrement-with-lease", body=DecrementSlotsWithLease, returns=NoneType, status=204
)
READ_ALL_CONCURRENCY_LIMITS_V2 = Endpoint(
    "POST", f"{_ROOT}/filter", body=ReadConcurrencyLimits, returns=list[GlobalConcurrencyLimit]
)
BULK_INCREMENT_ACTIVE_SLOTS = Endpoint(
    "POST", f"{_ROOT}/increment", body=IncrementSlots, returns=Minimal, refusals=(423,), waits=True
)
BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE = Endpoint(
    "POST",
    f"{_ROOT}/increment-with-lease",
    body=IncrementSlotsWithLease,
    returns=ConcurrencyLimitWithLeaseResponse,
    refusals=(423,),
    waits=True,
)
RENEW_CONCURRENCY_LEASE = Endpoint(
    "POST", f"{_ROOT}/leases/{{lease_id}}/renew", body=RenewLease, returns=NoneType, status=204, refusals=(410,)
)
DELETE_CONCURRENCY_LIMIT_V2 = Endpoint("DELETE", f"{_ROOT}/{{id_or_name}}", returns=NoneType, status=204)
READ_CONCURRENCY_LIMIT_V2 = Endpoint("GET", f"{_ROOT}/{{id_or_name}}", returns=GlobalConcurrencyLimit)
UPDATE_CONCURRENCY_LIMIT_V2 = Endpoint(
    "PATCH", f"{_ROOT}/{{id_or_name}}", body=ConcurrencyLimitV2Update, returns=NoneType, status=204
)
