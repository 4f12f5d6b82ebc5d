"""Concurrency limits, the leases that are their only record of what is in use, and who waits.  # G7"""

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Moment

CONCURRENCY_LIMIT = Table(
    "concurrency_limit",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("limit", Integer, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("slot_decay_per_second", Float, nullable=False),
    Column("avg_slot_occupancy_seconds", Float, nullable=False, default=2.0),
)

SLOT_LEASE = Table(
    "slot_lease",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("limit_id", Id, primary_key=True),
    Column("slots", Integer, nullable=False),
    Column("by_client", Boolean, nullable=False, default=False),
    Column("holder_type", String),
    Column("holder_id", Id),
    Column("acquired", Moment, nullable=False),
    Column("drains", Moment),
    Column("until", Moment, nullable=False),
    Index(None, "limit_id", "until"),
    Index(None, "holder_id"),
)
"""Slots in use, one row for each limit of a lease.  # G7

There is no counter. A slot is a row with an end; those whose end lies ahead are in use, summed up under the lock of
the limit. A run that is held by a lease keeps its slot for as long as it is held (`FOREVER`): whatever ends the run or
takes it from its holder frees the slot in the same transaction, so a slot can neither be lost nor return late.
A client without a lease of headrace's gets the slot for a time of grace until it runs, as Prefect's server does.

`by_client` are those that a client took by a call of its own: they do not come and go with the states of the run that
holds them, but end with it. `drains` is when the last of the slots has come back by itself, where the limit has a
decay: the slots of a limit come back one after the other, so the latest of these moments says how many are still out.
"""

SLOT_WAITER = Table(
    "slot_waiter",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("limit_id", Id, primary_key=True),
    Column("request", Id, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("retry", Moment, nullable=False),
    Column("until", Moment, nullable=False),
    Index(None, "limit_id", "id"),
    Index(None, "request"),
)
"""The line before each limit, in the order of `id`, which is made when somebody is first refused.  # G7

`request` is what comes back: a run, or what a client's call asks for. It is told to come back at `retry`, and who has
not come back by `until` has lost the place. One that waits for several limits has the same id in each line, so that
no two can each stand before the other.
"""
