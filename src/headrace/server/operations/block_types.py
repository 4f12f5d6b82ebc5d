"""Block types: kinds of blocks, and those that come with headrace."""

import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy import delete, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import Forbidden, ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.block_types import (
    CREATE_BLOCK_TYPE,
    DELETE_BLOCK_TYPE,
    INSTALL_SYSTEM_BLOCK_TYPES,
    READ_BLOCK_TYPE_BY_ID,
    READ_BLOCK_TYPE_BY_SLUG,
    READ_BLOCK_TYPES,
    UPDATE_BLOCK_TYPE,
    BlockType,
    BlockTypeCreate,
    BlockTypeUpdate,
    ReadBlockTypes,
)
from headrace.server.events.log import tell_of
from headrace.server.operations.block_reading import read_type_row
from headrace.server.operations.block_removal import delete_schemas
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.store.filters import where
from headrace.server.store.statements import insert_ignore, upsert
from headrace.server.store.tables import BLOCK_SCHEMA, BLOCK_TYPE, CONFIGURATION
from headrace.server.store.transaction import Tx

CATALOGUE = Path(__file__).with_name("block_catalogue.json")
"""The block types that come with headrace, with their schemas: those of Prefect 3.8.8 and of its integrations.

Titles and shapes of fields are theirs and the descriptions are ours, so each checksum is said, not computed: clients
look schemas up by the checksum of their own wording.
"""
_INSTALLED = "block_catalogue"
_SELECT = select(BLOCK_TYPE)
_RESERVED = ("prefect", "headrace")


def _tell(tx: Tx, what: str, one: BlockType) -> None:
    names = ("name", "slug", "logo_url", "documentation_url", "description", "code_example", "is_protected")
    tell_of(tx, "block-type", what, one.id, one.name, payload={name: getattr(one, name) for name in names})


def check_name(name: str, what: str, field: str) -> None:
    """See that a slug, or the name of a block, has no characters but small letters, digits and dashes.

    Raises:
        ValidationFailed: it has.
    """
    if not name or not all(one == "-" or (one.isascii() and (one.isdigit() or one.islower())) for one in name):
        message = f"{what} {name!r} may have only lowercase letters, digits and dashes."
        raise ValidationFailed(message, [{"type": "value_error", "loc": ["body", field], "msg": message}])


@implements(CREATE_BLOCK_TYPE, access="blocks:write")
def create_block_type(tx: Tx, body: BlockTypeCreate) -> BlockType:
    """Create a block type."""
    check_name(body.slug, "A block type's slug", "slug")
    if body.name.lower().startswith(_RESERVED):
        raise Forbidden(f"Names of block types do not begin with {' or '.join(_RESERVED)}: those are reserved.")
    made = BlockType(id=uuid7(), created=tx.now, updated=tx.now, **msgspec.structs.asdict(body))
    if not insert_ignore(tx, BLOCK_TYPE, [msgspec.structs.asdict(made)], index=["slug"]):
        raise ObjectAlreadyExists(f"A block type with the slug {body.slug!r} exists already.")
    _tell(tx, "created", made)
    return made


def _read(tx: Tx, condition: Any, key: object) -> BlockType:
    row = tx.execute(_SELECT.where(condition)).one_or_none()
    if row is None:
        raise ObjectNotFound("Block type", key)
    return read_type_row(row)


@implements(READ_BLOCK_TYPE_BY_ID, access="blocks:read")
def read_block_type_by_id(tx: Tx, id: UUID) -> BlockType:
    """One block type."""
    return _read(tx, BLOCK_TYPE.c.id == id, id)


@implements(READ_BLOCK_TYPE_BY_SLUG, access="blocks:read")
def read_block_type_by_slug(tx: Tx, slug: str) -> BlockType:
    """The block type of a slug."""
    return _read(tx, BLOCK_TYPE.c.slug == slug, slug)


@implements(READ_BLOCK_TYPES, access="blocks:read")
def read_block_types(tx: Tx, body: ReadBlockTypes) -> list[BlockType]:
    """The block types that filters find, by name."""
    chosen = _SELECT.where(where(BLOCK_TYPE, body.block_types)).order_by(BLOCK_TYPE.c.name, BLOCK_TYPE.c.id)
    if body.block_schemas is not None:
        chosen = chosen.where(
            BLOCK_TYPE.c.id.in_(select(BLOCK_SCHEMA.c.block_type_id).where(where(BLOCK_SCHEMA, body.block_schemas)))
        )
    rows = tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset))
    return listed(rows, read_type_row, "block type")


@implements(UPDATE_BLOCK_TYPE, access="blocks:write")
def update_block_type(tx: Tx, id: UUID, body: BlockTypeUpdate) -> None:
    """Change what is said of a block type."""
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    if not tx.execute(update(BLOCK_TYPE).where(BLOCK_TYPE.c.id == id).values(**changes, updated=tx.now)).rowcount:
        raise ObjectNotFound("Block type", id)
    _tell(tx, "updated", read_block_type_by_id(tx, id))


@implements(DELETE_BLOCK_TYPE, access="blocks:write")
def delete_block_type(tx: Tx, id: UUID) -> None:
    """Delete a block type with its schemas and blocks."""
    tx.execute(select(BLOCK_TYPE.c.id).where(BLOCK_TYPE.c.id == id).with_for_update()).all()
    gone = read_block_type_by_id(tx, id)
    if gone.is_protected:
        raise Forbidden("protected block types cannot be deleted.")  # Prefect's clients look for these words
    delete_schemas(tx, BLOCK_SCHEMA.c.block_type_id == id)
    tx.execute(delete(BLOCK_TYPE).where(BLOCK_TYPE.c.id == id))
    _tell(tx, "deleted", gone)


@implements(INSTALL_SYSTEM_BLOCK_TYPES, access="blocks:write")
def install_system_block_types(tx: Tx) -> None:
    """Make the block types known that come with headrace; those that are there stay as they are."""
    written = CATALOGUE.read_bytes()
    digest = hashlib.sha256(written).hexdigest()
    held = tx.execute(select(CONFIGURATION.c.value).where(CONFIGURATION.c.key == _INSTALLED)).scalar_one_or_none()
    entries = msgspec.json.decode(written)
    slugs = [entry["slug"] for entry in entries]
    there = tx.execute(select(BLOCK_TYPE.c.slug, BLOCK_TYPE.c.id).where(BLOCK_TYPE.c.slug.in_(slugs)))
    ids: dict[str, UUID] = {row.slug: row.id for row in there}
    if held == digest and len(ids) == len(slugs):
        return
    now = {"created": tx.now, "updated": tx.now}
    ids = {slug: ids.get(slug) or uuid7() for slug in slugs}
    absent = {"logo_url": None, "documentation_url": None, "code_example": None}
    said = ("slug", "name", "description", "is_protected")
    types = [{"id": ids[one["slug"]], **now, **absent, **{name: one[name] for name in said}} for one in entries]
    insert_ignore(tx, BLOCK_TYPE, types, index=["slug"], counted=False)
    said = ("checksum", "version", "capabilities", "fields")
    schemas = [
        {"id": uuid7(), "block_type_id": ids[one["slug"]], **now, **{name: one[name] for name in said}}
        for one in entries
    ]
    insert_ignore(tx, BLOCK_SCHEMA, schemas, index=["checksum", "version"], counted=False)
    note = {"id": uuid7(), **now, "key": _INSTALLED, "value": digest}
    upsert(tx, CONFIGURATION, [note], index=["key"], update=["value", "updated"], counted=False)
