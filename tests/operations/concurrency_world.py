"""Short names for the calls about concurrency limits, for the tests of them."""

from typing import Any
from uuid import UUID

import pytest

from headrace.client.local import LocalClient
from headrace.exceptions import RateLimited
from headrace.schemas import concurrency_limits_v2 as v2
from headrace.schemas.concurrency_limits_v2 import ConcurrencyLeaseHolder, HolderType


class Limits:
    """Short names for the calls about limits."""

    def __init__(self, api: LocalClient) -> None:
        self.api = api

    def make(self, name: str = "db", limit: int = 1, **fields: Any) -> v2.ConcurrencyLimitV2:
        """A limit."""
        body = v2.ConcurrencyLimitV2Create(name=name, limit=limit, **fields)
        return self.api.call(v2.CREATE_CONCURRENCY_LIMIT_V2, body=body)

    def used(self, name: str = "db") -> int:
        """How many of its slots are in use."""
        return self.api.call(v2.READ_CONCURRENCY_LIMIT_V2, id_or_name=name).active_slots

    def change(self, of: str = "db", /, **fields: Any) -> None:
        """Change it."""
        body = v2.ConcurrencyLimitV2Update(**fields)
        self.api.call(v2.UPDATE_CONCURRENCY_LIMIT_V2, id_or_name=of, body=body)

    def take(self, *names: str, slots: int = 1, holder: UUID | None = None, **fields: Any) -> UUID:
        """Take slots with a lease, for a flow run if one is named."""
        who = None if holder is None else ConcurrencyLeaseHolder(type=HolderType.FLOW_RUN, id=holder)
        body = v2.IncrementSlotsWithLease(names=list(names or ("db",)), slots=slots, holder=who, **fields)
        return self.api.call(v2.BULK_INCREMENT_ACTIVE_SLOTS_WITH_LEASE, body=body).lease_id

    def refused(self, *names: str, **fields: Any) -> float:
        """Find no slot, and return for how long one is told to wait."""
        with pytest.raises(RateLimited) as refusal:
            self.take(*names, **fields)
        assert refusal.value.status == 423
        return refusal.value.retry_after

    def free(self, lease_id: UUID) -> None:
        """Give back the slots of a lease."""
        body = v2.DecrementSlotsWithLease(lease_id=lease_id)
        self.api.call(v2.BULK_DECREMENT_ACTIVE_SLOTS_WITH_LEASE, body=body)

    def renew(self, lease_id: UUID, seconds: float = 300) -> None:
        """Let a lease last."""
        body = v2.RenewLease(lease_duration=seconds)
        self.api.call(v2.RENEW_CONCURRENCY_LEASE, lease_id=lease_id, body=body)

    def add(self, *names: str, slots: int = 1, **fields: Any) -> list[str]:
        """Take slots without a lease; the names of the limits."""
        body = v2.IncrementSlots(names=list(names or ("db",)), slots=slots, **fields)
        return [limit.name for limit in self.api.call(v2.BULK_INCREMENT_ACTIVE_SLOTS, body=body)]

    def subtract(self, *names: str, slots: int = 1, **fields: Any) -> None:
        """Give back slots without a lease."""
        body = v2.DecrementSlots(names=list(names or ("db",)), slots=slots, **fields)
        self.api.call(v2.BULK_DECREMENT_ACTIVE_SLOTS, body=body)
