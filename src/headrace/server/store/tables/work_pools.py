"""Work pools, their queues, and the workers that were seen."""

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json, Moment

WORK_POOL = Table(
    "work_pool",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("type", String, nullable=False),
    Column("description", Text),
    Column("base_job_template", Json, nullable=False),
    Column("is_paused", Boolean, nullable=False),
    Column("concurrency_limit", Integer),
    Column("default_queue_id", Id),
    Column("status", String, nullable=False),
    Column("storage_configuration", Json, nullable=False),
)

WORK_QUEUE = Table(
    "work_queue",
    METADATA,
    *identity(),
    Column("work_pool_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("description", Text),
    Column("is_paused", Boolean, nullable=False),
    Column("concurrency_limit", Integer),
    Column("priority", Integer, nullable=False),
    Column("status", String, nullable=False),
    Column("last_polled", Moment),
    Column("filter", Json),
    Index(None, "work_pool_id", "name", unique=True),
)

CLEANUP_DELIVERY = Table(
    "cleanup_delivery",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("work_pool_id", Id, nullable=False),
    Column("work_queue_id", Id, nullable=False),
    Column("kind", String, nullable=False),
    Column("flow_run_id", Id, nullable=False),
    Column("claim_id", Id),
    Column("infrastructure_pid", String),
    Column("deliveries", Integer, nullable=False),
    Column("since", Moment, nullable=False),
    Column("due", Moment, nullable=False),
    Column("holder", Id),
    Index(None, "work_pool_id", "since"),
)

WORKER = Table(
    "worker",
    METADATA,
    *identity(),
    Column("work_pool_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("status", String, nullable=False),
    Column("last_heartbeat_time", Moment),
    Column("heartbeat_interval_seconds", Float),
    Index(None, "work_pool_id", "name", unique=True),
)
