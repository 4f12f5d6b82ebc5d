"""Variables and saved searches."""

from sqlalchemy import Column, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Json

VARIABLE = Table(
    "variable",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("value", Json),
    Column("tags", Json, nullable=False),
)

SAVED_SEARCH = Table(
    "saved_search",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("filters", Json, nullable=False),
)
