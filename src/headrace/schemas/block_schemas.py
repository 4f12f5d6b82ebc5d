"""Block schemas: which fields the blocks of a type have, by checksum and version, and what such blocks can do."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.block_filters import BlockSchemaFilter
from headrace.schemas.block_types import BlockType
from headrace.schemas.endpoint import Endpoint

UNVERSIONED = "non-versioned"


class BlockSchemaCreate(Struct, kw_only=True):
    """The fields of a type's blocks, as JSON schema; the same ones may be known already."""

    block_type_id: UUID
    capabilities: list[str] = []
    fields: dict[str, Any] = {}
    version: str = UNVERSIONED


class BlockSchema(Struct, kw_only=True):
    """The fields of a type's blocks, as they are stored."""

    block_type: BlockType | None = None
    block_type_id: UUID | None
    capabilities: list[str] = []
    checksum: str
    created: datetime | None
    fields: dict[str, Any] = {}
    id: UUID
    updated: datetime | None
    version: str = UNVERSIONED


class ReadBlockSchemas(Struct, kw_only=True):
    """Which block schemas to list, and which part of the list."""

    block_schemas: BlockSchemaFilter | None = None
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


READ_AVAILABLE_BLOCK_CAPABILITIES = Endpoint("GET", "/block_capabilities/", returns=list[str])
CREATE_BLOCK_SCHEMA = Endpoint(
    "POST", "/block_schemas/", body=BlockSchemaCreate, returns=BlockSchema, status=201, existing=200
)
READ_BLOCK_SCHEMA_BY_CHECKSUM = Endpoint("GET", "/block_schemas/checksum/{checksum}", returns=BlockSchema)
READ_BLOCK_SCHEMAS = Endpoint("POST", "/block_schemas/filter", body=ReadBlockSchemas, returns=list[BlockSchema])
DELETE_BLOCK_SCHEMA = Endpoint("DELETE", "/block_schemas/{id}", returns=NoneType, status=204)
READ_BLOCK_SCHEMA_BY_ID = Endpoint("GET", "/block_schemas/{id}", returns=BlockSchema)
