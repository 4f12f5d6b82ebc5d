"""Block schemas: the fields of blocks, by checksum and version, and what blocks can do."""

from uuid import UUID

import msgspec
from sqlalchemy import Select, select

from headrace._internal.ids import uuid7
from headrace.exceptions import Forbidden, ObjectNotFound, ValidationFailed
from headrace.schemas.block_schemas import (
    CREATE_BLOCK_SCHEMA,
    DELETE_BLOCK_SCHEMA,
    READ_AVAILABLE_BLOCK_CAPABILITIES,
    READ_BLOCK_SCHEMA_BY_CHECKSUM,
    READ_BLOCK_SCHEMA_BY_ID,
    READ_BLOCK_SCHEMAS,
    BlockSchema,
    BlockSchemaCreate,
    ReadBlockSchemas,
)
from headrace.schemas.block_secrets import secret_paths
from headrace.server.operations.block_checksums import checksum_of
from headrace.server.operations.block_reading import read_schemas
from headrace.server.operations.block_removal import delete_schemas, keep
from headrace.server.operations.block_types import read_block_type_by_id
from headrace.server.operations.paging import page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.store.filters import where
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import BLOCK_SCHEMA, BLOCK_TYPE
from headrace.server.store.transaction import Tx

_SELECT: Select[tuple[object, ...]] = select(BLOCK_SCHEMA)
_NEWEST_FIRST = BLOCK_SCHEMA.c.id.desc()


def find_schema(tx: Tx, id: UUID) -> BlockSchema:
    """The block schema of an id, with its type.

    Raises:
        ObjectNotFound: there is none.
    """
    if found := read_schemas(tx, _SELECT.where(BLOCK_SCHEMA.c.id == id)):
        return found[0]
    raise ObjectNotFound("Block schema", id)


@implements(CREATE_BLOCK_SCHEMA, access="blocks:write")
def create_block_schema(tx: Tx, body: BlockSchemaCreate) -> BlockSchema | Existing:
    """Make a schema known, or find the one of the same checksum and version."""
    keep(tx, BLOCK_TYPE, body.block_type_id)
    block_type = read_block_type_by_id(tx, body.block_type_id)
    fields = {"block_schema_references": {}} | body.fields
    if fields.get("secret_fields", []) != secret_paths(fields):
        raise ValidationFailed("The `secret_fields` of a block schema are a list of paths. Send each as a text.")
    made = BlockSchema(
        id=uuid7(),
        created=tx.now,
        updated=tx.now,
        block_type=block_type,
        block_type_id=block_type.id,
        capabilities=sorted(set(body.capabilities)),
        checksum=checksum_of(body.fields),
        fields=fields,
        version=body.version,
    )
    row = {name: value for name, value in msgspec.structs.asdict(made).items() if name != "block_type"}
    if insert_ignore(tx, BLOCK_SCHEMA, [row], index=["checksum", "version"]):
        return made
    return Existing(read_block_schema_by_checksum(tx, made.checksum, body.version))


@implements(READ_BLOCK_SCHEMA_BY_ID, access="blocks:read")
def read_block_schema_by_id(tx: Tx, id: UUID) -> BlockSchema:
    """One block schema."""
    return find_schema(tx, id)


@implements(READ_BLOCK_SCHEMA_BY_CHECKSUM, access="blocks:read")
def read_block_schema_by_checksum(tx: Tx, checksum: str, version: str | None = None) -> BlockSchema:
    """The block schema of a checksum: of a version, or the newest."""
    chosen = _SELECT.where(BLOCK_SCHEMA.c.checksum == checksum).order_by(_NEWEST_FIRST).limit(1)
    if version is not None:
        chosen = chosen.where(BLOCK_SCHEMA.c.version == version)
    if found := read_schemas(tx, chosen):
        return found[0]
    raise ObjectNotFound("Block schema", checksum)


@implements(READ_BLOCK_SCHEMAS, access="blocks:read")
def read_block_schemas(tx: Tx, body: ReadBlockSchemas) -> list[BlockSchema]:
    """The block schemas a filter finds, the newest first."""
    chosen = _SELECT.where(where(BLOCK_SCHEMA, body.block_schemas)).order_by(_NEWEST_FIRST)
    return read_schemas(tx, chosen.limit(page_size(body.limit)).offset(body.offset))


@implements(DELETE_BLOCK_SCHEMA, access="blocks:write")
def delete_block_schema(tx: Tx, id: UUID) -> None:
    """Delete a block schema with its blocks."""
    kind = find_schema(tx, id).block_type
    if kind is not None and kind.is_protected:
        raise Forbidden(f"The block type {kind.slug!r} is protected: its schemas cannot be deleted.")
    delete_schemas(tx, BLOCK_SCHEMA.c.id == id)


@implements(READ_AVAILABLE_BLOCK_CAPABILITIES, access="blocks:read")
def read_available_block_capabilities(tx: Tx) -> list[str]:
    """What blocks can do, as the schemas there are say."""
    rows = tx.execute(select(BLOCK_SCHEMA.c.capabilities).distinct()).scalars()
    return sorted({name for names in rows if isinstance(names, list) for name in names if isinstance(name, str)})
