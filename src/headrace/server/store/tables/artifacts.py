"""Artifacts, and which of those with the same key is the latest."""

from sqlalchemy import Column, Index, String, Table, Text

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json

ARTIFACT = Table(
    "artifact",
    METADATA,
    *identity(),
    Column("key", String),
    Column("type", String),
    Column("description", Text),
    Column("data", Json),
    Column("metadata_", Json),
    Column("flow_run_id", Id),
    Column("task_run_id", Id),
    Index(None, "key", "id"),
    Index(None, "flow_run_id"),
    Index(None, "task_run_id"),
    Index(None, "created"),
)

ARTIFACT_COLLECTION = Table(
    "artifact_collection",
    METADATA,
    *identity(),
    Column("key", String, nullable=False, unique=True),
    Column("latest_id", Id, nullable=False),
)
