"""What the server remembers of itself."""

from sqlalchemy import Column, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Json

CONFIGURATION = Table(
    "configuration",
    METADATA,
    *identity(),
    Column("key", String, nullable=False, unique=True),
    Column("value", Json, nullable=False),
)
