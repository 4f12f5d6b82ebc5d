"""Deployments and their schedules."""

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, Text

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json, Moment

DEPLOYMENT = Table(
    "deployment",
    METADATA,
    *identity(),
    Column("flow_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("version", String),
    Column("version_info", Json),
    Column("description", Text),
    Column("paused", Boolean, nullable=False),
    Column("status", String, nullable=False),
    Column("last_polled", Moment),
    Column("tags", Json, nullable=False),
    Column("labels", Json, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("parameter_openapi_schema", Json),
    Column("enforce_parameter_schema", Boolean, nullable=False),
    Column("job_variables", Json, nullable=False),
    Column("pull_steps", Json),
    Column("path", String),
    Column("entrypoint", String),
    Column("work_queue_id", Id),
    Column("work_queue_name", String),
    Column("infrastructure_document_id", Id),
    Column("storage_document_id", Id),
    Column("concurrency_limit_id", Id),
    Column("concurrency_options", Json),
    Column("created_by", Json),
    Column("updated_by", Json),
    # raised by every change of its schedules or their future runs; the scheduler inserts only at the version it
    # read  # G3
    Column("schedule_version", Integer, nullable=False, server_default="0"),
    Index(None, "flow_id", "name", unique=True),
    Index(None, "work_queue_id"),
    Index(None, "created"),
)

DEPLOYMENT_SCHEDULE = Table(
    "deployment_schedule",
    METADATA,
    *identity(),
    Column("deployment_id", Id, nullable=False),
    Column("schedule", Json, nullable=False),
    Column("active", Boolean, nullable=False),
    # deploying the same schedule again must not set it going; only who paused it does
    Column("paused_by_operator", Boolean, nullable=False),
    Column("slug", String),
    Column("parameters", Json, nullable=False),
    Column("max_scheduled_runs", Integer),
    Index(None, "deployment_id", "slug", unique=True),
)
