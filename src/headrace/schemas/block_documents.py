"""Block documents: the blocks themselves, by type and name, with their values."""

from datetime import datetime
from types import NoneType
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.block_filters import BlockDocumentFilter, BlockDocumentSort, BlockSchemaFilter, BlockTypeFilter
from headrace.schemas.block_schemas import BlockSchema
from headrace.schemas.block_types import BlockType
from headrace.schemas.endpoint import Endpoint

BlockDocumentName = Annotated[str, Meta(pattern="^[^/%&><]+$")]


class BlockDocumentCreate(Struct, kw_only=True):
    """A block to be stored; `{"$ref": {"block_document_id": id}}` as a value puts another block in its place.

    The name is small letters, digits and dashes. An anonymous block needs none.
    """

    block_schema_id: UUID
    block_type_id: UUID
    data: dict[str, Any] = {}
    is_anonymous: bool = False
    name: BlockDocumentName | None = None


class BlockDocument(Struct, kw_only=True):
    """A block as it is stored, with the blocks it refers to filled in, and secrets as stars unless asked for."""

    block_document_references: dict[str, dict[str, Any]] = {}
    block_schema: BlockSchema | None = None
    block_schema_id: UUID
    block_type: BlockType | None = None
    block_type_id: UUID
    block_type_name: str | None = None
    created: datetime | None
    data: dict[str, Any] = {}
    id: UUID
    is_anonymous: bool = False
    name: BlockDocumentName | None = None
    updated: datetime | None


class BlockDocumentUpdate(Struct, kw_only=True):
    """New values of a block, in place of the old ones or merged into them. Stars leave a secret as it is."""

    block_schema_id: UUID | None = None
    data: dict[str, Any] = {}
    merge_existing_data: bool = True


class CountBlockDocuments(Struct, kw_only=True):
    """Which blocks to count; anonymous ones are left out unless their filter says otherwise."""

    block_documents: BlockDocumentFilter | None = None
    block_schemas: BlockSchemaFilter | None = None
    block_types: BlockTypeFilter | None = None


class ReadBlockDocuments(CountBlockDocuments, kw_only=True):
    """Which blocks to list, in what order, which part of the list, and whether with their secrets."""

    include_secrets: bool = False
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0
    sort: BlockDocumentSort | None = BlockDocumentSort.NAME_ASC


_OF_TYPE = "/block_types/slug/{slug}/block_documents"

CREATE_BLOCK_DOCUMENT = Endpoint(
    "POST", "/block_documents/", body=BlockDocumentCreate, returns=BlockDocument, status=201
)
COUNT_BLOCK_DOCUMENTS = Endpoint("POST", "/block_documents/count", body=CountBlockDocuments, returns=int)
READ_BLOCK_DOCUMENTS = Endpoint("POST", "/block_documents/filter", body=ReadBlockDocuments, returns=list[BlockDocument])
DELETE_BLOCK_DOCUMENT = Endpoint("DELETE", "/block_documents/{id}", returns=NoneType, status=204)
READ_BLOCK_DOCUMENT_BY_ID = Endpoint("GET", "/block_documents/{id}", returns=BlockDocument)
UPDATE_BLOCK_DOCUMENT_DATA = Endpoint(
    "PATCH", "/block_documents/{id}", body=BlockDocumentUpdate, returns=NoneType, status=204
)
READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE = Endpoint("GET", _OF_TYPE, returns=list[BlockDocument])
READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE = Endpoint(
    "GET", _OF_TYPE + "/name/{block_document_name}", returns=BlockDocument
)
