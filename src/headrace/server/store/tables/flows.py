"""Flows, their runs and the states of those."""

from sqlalchemy import Boolean, Column, Float, Index, Integer, String, Table, Text, func

from headrace.server.store.tables.metadata import METADATA, identity, newest_first, of_filled
from headrace.server.store.tables.types import Id, Json, Moment

FLOW = Table(
    "flow",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("tags", Json, nullable=False),
    Column("labels", Json, nullable=False),
)

FLOW_RUN = Table(
    "flow_run",
    METADATA,
    *identity(),
    Column("flow_id", Id, nullable=False),
    Column("deployment_id", Id),
    Column("work_queue_id", Id),
    Column("work_queue_name", String),
    Column("parent_task_run_id", Id),
    Column("name", String, nullable=False),
    Column("flow_version", String),
    Column("deployment_version", String),
    Column("parameters", Json, nullable=False),
    Column("context", Json, nullable=False),
    Column("empirical_policy", Json, nullable=False),
    Column("job_variables", Json),
    Column("tags", Json, nullable=False),
    Column("labels", Json, nullable=False),
    Column("created_by", Json),
    Column("idempotency_key", String),
    Column("infrastructure_document_id", Id),
    Column("infrastructure_pid", String),
    Column("auto_scheduled", Boolean, nullable=False),
    Column("expected_start_time", Moment, nullable=False),
    Column("next_scheduled_start_time", Moment),
    Column("start_time", Moment),
    Column("end_time", Moment),
    Column("total_run_time", Float, nullable=False),
    Column("run_count", Integer, nullable=False),
    # the state in force; its row in flow_run_state is the record, these columns are for filters
    Column("state_id", Id),
    Column("state_type", String),
    Column("state_name", String),
    Column("state_timestamp", Moment),
    Column("state_index", Integer, nullable=False, server_default="0"),
    # the attempt and who may write for it
    Column("epoch", Integer, nullable=False, server_default="0"),
    Column("lease_until", Moment),
    Column("lease_seconds", Float),
    # when a reconciler has to look at this run; empty for final runs and for those that wait for nobody
    Column("due", Moment),
    # a change of state costs an entry in each index on PostgreSQL, so most have only the rows that are looked up there
    Index(None, "flow_id", "idempotency_key", unique=True, **of_filled("idempotency_key")),
    Index(None, "deployment_id", "next_scheduled_start_time", **of_filled("next_scheduled_start_time")),
    Index(None, "work_queue_id", "state_type", "next_scheduled_start_time", **of_filled("work_queue_id")),
    Index(None, "parent_task_run_id", **of_filled("parent_task_run_id")),
    Index(None, "state_type", "due", **of_filled("due")),
    Index(None, "expected_start_time"),
    Index(None, "start_time", **of_filled("start_time")),
    Index(None, "name", "id"),
)
STANDS_AT = func.coalesce(FLOW_RUN.c.start_time, FLOW_RUN.c.expected_start_time)
"""Where a flow run stands in time: when it began, or is expected to."""
# whether a run is a subflow, and when it is expected, so that runs are counted by them without looking at their rows
Index("ix_flow_run__stands_at", STANDS_AT, FLOW_RUN.c.parent_task_run_id)
Index(
    "ix_flow_run__state_type_stands_at",
    FLOW_RUN.c.state_type,
    STANDS_AT,
    FLOW_RUN.c.expected_start_time,
    FLOW_RUN.c.parent_task_run_id,
)
Index("ix_flow_run__state_name_stands_at", FLOW_RUN.c.state_name, STANDS_AT)
Index("ix_flow_run__flow_id_stands_at", FLOW_RUN.c.flow_id, STANDS_AT)
Index("ix_flow_run__deployment_id_stands_at", FLOW_RUN.c.deployment_id, STANDS_AT, **of_filled("deployment_id"))
Index("ix_flow_run__end_time", newest_first(FLOW_RUN.c.end_time))

FLOW_RUN_STATE = Table(
    "flow_run_state",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("flow_run_id", Id, nullable=False),
    Column("state_index", Integer, nullable=False),
    Column("type", String, nullable=False),
    Column("name", String, nullable=False),
    Column("timestamp", Moment, nullable=False),
    Column("message", Text),
    Column("data", Json),
    Column("state_details", Json, nullable=False),
    Index(None, "flow_run_id", "state_index", unique=True),  # G5
)

FLOW_RUN_INPUT = Table(
    "flow_run_input",
    METADATA,
    *identity(),
    Column("flow_run_id", Id, nullable=False),
    Column("key", String, nullable=False),
    Column("value", Text, nullable=False),
    Column("sender", String),
    Index(None, "flow_run_id", "key", unique=True),
)
