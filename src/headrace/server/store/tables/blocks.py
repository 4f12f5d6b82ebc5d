"""Block types, their schemas, and block documents, whose values are encrypted."""

from sqlalchemy import Boolean, Column, Index, String, Table, Text

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json

BLOCK_TYPE = Table(
    "block_type",
    METADATA,
    *identity(),
    Column("name", String, nullable=False),
    Column("slug", String, nullable=False),
    Column("logo_url", Text),
    Column("documentation_url", Text),
    Column("description", Text),
    Column("code_example", Text),
    Column("is_protected", Boolean, nullable=False),
    Index(None, "slug", unique=True),
)

BLOCK_SCHEMA = Table(
    "block_schema",
    METADATA,
    *identity(),
    Column("block_type_id", Id, nullable=False),
    Column("checksum", String, nullable=False),
    Column("version", String, nullable=False),
    Column("capabilities", Json, nullable=False),
    Column("fields", Json, nullable=False),
    Index(None, "checksum", "version", unique=True),
    Index(None, "block_type_id"),
)

BLOCK_DOCUMENT = Table(
    "block_document",
    METADATA,
    *identity(),
    Column("block_type_id", Id, nullable=False),
    Column("block_schema_id", Id, nullable=False),
    Column("name", String, nullable=False),
    Column("is_anonymous", Boolean, nullable=False),
    Column("data", Text, nullable=False),  # S12: a Fernet token
    Column("key_id", String, nullable=False),
    Column("references", Json, nullable=False),
    Index(None, "block_type_id", "name", unique=True),
    Index(None, "block_schema_id"),
)
