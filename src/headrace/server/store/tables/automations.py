"""Automations, and an index of the resources each is owned by or acts on."""

from sqlalchemy import Boolean, Column, Index, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json

AUTOMATION = Table(
    "automation",
    METADATA,
    *identity(),
    Column("name", String, nullable=False),
    Column("description", String, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("tags", Json, nullable=False),
    Column("trigger", Json, nullable=False),
    Column("actions", Json, nullable=False),
    Column("actions_on_trigger", Json, nullable=False),
    Column("actions_on_resolve", Json, nullable=False),
)

AUTOMATION_RELATED = Table(
    "automation_related",
    METADATA,
    Column("resource_id", String, primary_key=True),
    Column("automation_id", Id, primary_key=True),
    Column("owns", Boolean, primary_key=True),
    Index(None, "automation_id"),
)
