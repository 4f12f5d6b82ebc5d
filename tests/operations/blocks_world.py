"""Block types, schemas and blocks for the tests, made by the calls a client would make."""

from typing import Any
from uuid import UUID

from headrace.client.local import LocalClient
from headrace.schemas.block_documents import (
    CREATE_BLOCK_DOCUMENT,
    READ_BLOCK_DOCUMENT_BY_ID,
    BlockDocument,
    BlockDocumentCreate,
)
from headrace.schemas.block_schemas import CREATE_BLOCK_SCHEMA, BlockSchema, BlockSchemaCreate
from headrace.schemas.block_types import CREATE_BLOCK_TYPE, BlockType, BlockTypeCreate

STARS = "********"


def make_type(api: LocalClient, slug: str = "login", **options: Any) -> BlockType:
    """A block type."""
    return api.call(CREATE_BLOCK_TYPE, body=BlockTypeCreate(name=slug.title(), slug=slug, **options))


def make_schema(
    api: LocalClient, slug: str = "login", secrets: tuple[str, ...] = ("password",), **options: Any
) -> BlockSchema:
    """A new block type with a schema that has these secrets."""
    return add_schema(api, make_type(api, slug), secrets, **options)


def add_schema(
    api: LocalClient, kind: BlockType | None, secrets: tuple[str, ...] = (), title: str = "", **options: Any
) -> BlockSchema:
    """One more schema of a block type."""
    assert kind is not None
    fields = {"title": title or kind.slug, "block_type_slug": kind.slug, "secret_fields": list(secrets)}
    return api.call(CREATE_BLOCK_SCHEMA, body=BlockSchemaCreate(block_type_id=kind.id, fields=fields, **options))


def make_block(
    api: LocalClient, schema: BlockSchema, name: str | None = "mine", *, is_anonymous: bool = False, **data: Any
) -> BlockDocument:
    """A block with these values."""
    assert schema.block_type_id is not None
    body = BlockDocumentCreate(
        name=name, data=data, block_schema_id=schema.id, block_type_id=schema.block_type_id, is_anonymous=is_anonymous
    )
    return api.call(CREATE_BLOCK_DOCUMENT, body=body)


def reference(block: BlockDocument) -> dict[str, Any]:
    """A value that puts another block in its place."""
    return {"$ref": {"block_document_id": str(block.id)}}


def values(api: LocalClient, id: UUID, *, secrets: bool = True) -> dict[str, Any]:
    """The values of a block, with its secrets unless they are not wanted."""
    return api.call(READ_BLOCK_DOCUMENT_BY_ID, id=id, include_secrets=secrets).data
