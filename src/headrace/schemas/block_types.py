"""Block types: kinds of blocks, by slug, and the calls about them."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from headrace.schemas.block_filters import BlockSchemaFilter, BlockTypeFilter
from headrace.schemas.endpoint import Endpoint

BlockTypeName = Annotated[str, Meta(pattern="^[^/%&><]+$")]


class BlockTypeCreate(Struct, kw_only=True):
    """A kind of blocks to be made known; the slug is small letters, digits and dashes."""

    code_example: str | None = None
    description: str | None = None
    documentation_url: str | None = None
    logo_url: str | None = None
    name: BlockTypeName
    slug: str


class BlockType(Struct, kw_only=True):
    """A kind of blocks as it is stored; a protected one cannot be deleted."""

    code_example: str | None = None
    created: datetime | None
    description: str | None = None
    documentation_url: str | None = None
    id: UUID
    is_protected: bool = False
    logo_url: str | None = None
    name: BlockTypeName
    slug: str
    updated: datetime | None


class BlockTypeUpdate(Struct, kw_only=True):
    """What to change of a block type; what is left out stays."""

    code_example: str | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    documentation_url: str | UnsetType | None = UNSET
    logo_url: str | UnsetType | None = UNSET


class ReadBlockTypes(Struct, kw_only=True):
    """Which block types to list, and which part of the list."""

    block_schemas: BlockSchemaFilter | None = None
    block_types: BlockTypeFilter | None = None
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


CREATE_BLOCK_TYPE = Endpoint("POST", "/block_types/", body=BlockTypeCreate, returns=BlockType, status=201)
READ_BLOCK_TYPES = Endpoint("POST", "/block_types/filter", body=ReadBlockTypes, returns=list[BlockType])
INSTALL_SYSTEM_BLOCK_TYPES = Endpoint("POST", "/block_types/install_system_block_types", returns=Any)
READ_BLOCK_TYPE_BY_SLUG = Endpoint("GET", "/block_types/slug/{slug}", returns=BlockType)
DELETE_BLOCK_TYPE = Endpoint("DELETE", "/block_types/{id}", returns=NoneType, status=204)
READ_BLOCK_TYPE_BY_ID = Endpoint("GET", "/block_types/{id}", returns=BlockType)
UPDATE_BLOCK_TYPE = Endpoint("PATCH", "/block_types/{id}", body=BlockTypeUpdate, returns=NoneType, status=204)
