"""Task runs, their states, and log lines."""

from sqlalchemy import Column, Float, Index, Integer, String, Table, Text

from headrace.server.store.tables.metadata import METADATA, identity, newest_first, of_filled
from headrace.server.store.tables.types import Id, Json, Moment

TASK_RUN = Table(
    "task_run",
    METADATA,
    *identity(),
    Column("flow_run_id", Id),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("name", String, nullable=False),
    Column("task_key", String, nullable=False),
    Column("dynamic_key", String, nullable=False),
    Column("task_version", String),
    Column("task_inputs", Json, nullable=False),
    Column("empirical_policy", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Column("labels", Json, nullable=False),
    Column("cache_key", String),
    Column("cache_expiration", Moment),
    Column("expected_start_time", Moment, nullable=False),
    Column("next_scheduled_start_time", Moment),
    Column("start_time", Moment),
    Column("end_time", Moment),
    Column("total_run_time", Float, nullable=False),
    Column("run_count", Integer, nullable=False),
    Column("flow_run_run_count", Integer, nullable=False),
    Column("state_id", Id),
    Column("state_type", String),
    Column("state_name", String),
    Column("state_timestamp", Moment),
    Index(None, "flow_run_id", "task_key", "dynamic_key", unique=True),
    Index(None, "state_type", "flow_run_id"),
    Index(None, "expected_start_time"),
    Index(None, "start_time", **of_filled("start_time")),
    Index(None, "cache_key", **of_filled("cache_key")),
)
Index("ix_task_run__end_time", newest_first(TASK_RUN.c.end_time))

TASK_DELIVERY = Table(
    "task_delivery",
    METADATA,
    Column("task_run_id", Id, primary_key=True),
    Column("task_key", String, nullable=False),
    Column("state_id", Id, nullable=False),
    Column("since", Moment, nullable=False),
    Column("due", Moment, nullable=False),
    Column("holder", Id),
    Index(None, "task_key", "since"),
    Index(None, "holder"),
)

TASK_RUN_STATE = Table(
    "task_run_state",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("task_run_id", Id, nullable=False),
    Column("type", String, nullable=False),
    Column("name", String, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("message", Text),
    Column("data", Json),
    Column("state_details", Json, nullable=False),
    Index(None, "task_run_id", "timestamp"),
)

LOG = Table(
    "log",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("created", Moment, nullable=False),
    Column("name", String, nullable=False),
    Column("level", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("flow_run_id", Id),
    Column("task_run_id", Id),
    Column("worker_id", Id),
    Index(None, "flow_run_id", "timestamp", **of_filled("flow_run_id")),
    Index(None, "task_run_id", "timestamp", **of_filled("task_run_id")),
    Index(None, "timestamp"),
)

TASK_SERVER = Table(
    "task_server",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("identifier", String, nullable=False),
    Column("task_keys", Json, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("until", Moment, nullable=False),
)
"""The servers of background tasks that are connected, each until when it is believed to be."""
