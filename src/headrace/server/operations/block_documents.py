"""Block documents: blocks stored by type and name, with secrets that only those read who may."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.block_documents import (
    COUNT_BLOCK_DOCUMENTS,
    CREATE_BLOCK_DOCUMENT,
    DELETE_BLOCK_DOCUMENT,
    READ_BLOCK_DOCUMENT_BY_ID,
    READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE,
    READ_BLOCK_DOCUMENTS,
    READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE,
    UPDATE_BLOCK_DOCUMENT_DATA,
    BlockDocument,
    BlockDocumentCreate,
    BlockDocumentUpdate,
    CountBlockDocuments,
    ReadBlockDocuments,
)
from headrace.schemas.block_filters import BlockDocumentFilter, BlockDocumentSort
from headrace.schemas.block_schemas import BlockSchema
from headrace.schemas.block_secrets import restored, secret_paths
from headrace.server.operations.block_reading import Shelf, StoredBlock
from headrace.server.operations.block_removal import delete_documents, keep, tell_of_block
from headrace.server.operations.block_schemas import find_schema
from headrace.server.operations.block_types import check_name, read_block_type_by_slug
from headrace.server.operations.block_vault import seal
from headrace.server.operations.paging import count_of, page_size
from headrace.server.operations.registry import implements
from headrace.server.store.filters import ordered, where
from headrace.server.store.long_lists import among
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import BLOCK_DOCUMENT, BLOCK_SCHEMA, BLOCK_TYPE
from headrace.server.store.transaction import Tx

SECRETS = "secrets:read"
"""The permission to read the secrets of blocks, beside that to read blocks."""
_SELECT = select(BLOCK_DOCUMENT)


def _split(tx: Tx, data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, UUID]]:
    """A block's own values, and the ids of the blocks that stand for others: `{"$ref": {"block_document_id": id}}`.

    Raises:
        ValidationFailed: one of these is no reference to a block that exists.
    """
    referring = {name for name, value in data.items() if isinstance(value, dict) and "$ref" in value}
    try:
        references = {name: UUID(data[name]["$ref"]["block_document_id"]) for name in referring}
    except (TypeError, KeyError, ValueError, AttributeError):
        raise ValidationFailed('A reference to a block has the form {"$ref": {"block_document_id": id}}.') from None
    wanted = set(references.values())
    there = tx.execute(select(BLOCK_DOCUMENT.c.id).where(among(BLOCK_DOCUMENT.c.id, list(wanted)))).scalars()
    if missing := wanted - set(there):
        raise ValidationFailed(f"Block documents that it refers to do not exist: {', '.join(map(str, missing))}.")
    return {name: value for name, value in data.items() if name not in references}, references


def _schema_for(tx: Tx, id: UUID, block_type_id: UUID) -> BlockSchema:
    keep(tx, BLOCK_SCHEMA, id)
    try:
        schema = find_schema(tx, id)
    except ObjectNotFound as error:
        raise ValidationFailed(f"{error}. Register the block's schema first.") from None
    if schema.block_type_id != block_type_id:
        raise ValidationFailed("A block and its schema are of one block type. Name a schema of the block's own type.")
    return schema


@implements(CREATE_BLOCK_DOCUMENT, access="blocks:write")
def create_block_document(tx: Tx, body: BlockDocumentCreate) -> BlockDocument:
    """Store a block."""
    id = uuid7()
    if body.name is None and not body.is_anonymous:
        message = "A block has a name, unless it is anonymous."
        raise ValidationFailed(message, [{"type": "value_error", "loc": ["body", "name"], "msg": message}])
    name = f"anonymous-{id}" if body.name is None else body.name
    check_name(name, "A block's name", "name")
    schema = _schema_for(tx, body.block_schema_id, body.block_type_id)
    own, references = _split(tx, body.data)
    row = {
        "id": id,
        "created": tx.now,
        "updated": tx.now,
        "block_type_id": schema.block_type_id,
        "block_schema_id": schema.id,
        "name": name,
        "is_anonymous": body.is_anonymous,
        "references": references,
        **seal(tx, own),
    }
    if not insert_ignore(tx, BLOCK_DOCUMENT, [row], index=["block_type_id", "name"]):
        raise ObjectAlreadyExists(f"A block of this type with the name {name!r} exists already.")
    return _told(tx, "created", id)


def _told(tx: Tx, what: str, id: UUID) -> BlockDocument:
    shelf, block = _find(tx, id)
    tell_of_block(tx, what, block)
    return shelf.document(block, secrets=False)


def _find(tx: Tx, id: UUID, *, lock: bool = False) -> tuple[Shelf, StoredBlock]:
    chosen = _SELECT.where(BLOCK_DOCUMENT.c.id == id)
    return _only(tx, chosen.with_for_update() if lock else chosen, id)


def _only(tx: Tx, chosen: Select[Any], key: object) -> tuple[Shelf, StoredBlock]:
    shelf = Shelf(tx, tx.execute(chosen).all())
    block = shelf.only()
    if block is None:
        raise ObjectNotFound("Block document", key)
    return shelf, block


@implements(READ_BLOCK_DOCUMENT_BY_ID, access="blocks:read")
def read_block_document_by_id(tx: Tx, id: UUID, include_secrets: bool = False) -> BlockDocument:
    """One block."""
    _check_secrets(tx, include_secrets)
    shelf, block = _find(tx, id)
    return shelf.document(block, secrets=include_secrets)


def _check_secrets(tx: Tx, wanted: bool) -> None:
    if wanted:
        tx.caller.require(SECRETS)  # S12


@implements(READ_BLOCK_DOCUMENT_BY_NAME_FOR_BLOCK_TYPE, access="blocks:read")
def read_block_document_by_name_for_block_type(
    tx: Tx, slug: str, block_document_name: str, include_secrets: bool = False
) -> BlockDocument:
    """The block of a name, of the type of a slug."""
    _check_secrets(tx, include_secrets)
    of_type = BLOCK_DOCUMENT.c.block_type_id.in_(select(BLOCK_TYPE.c.id).where(BLOCK_TYPE.c.slug == slug))
    chosen = _SELECT.where(of_type, BLOCK_DOCUMENT.c.name == block_document_name)
    shelf, block = _only(tx, chosen, f"{slug}/{block_document_name}")
    return shelf.document(block, secrets=include_secrets)


def _chosen(body: CountBlockDocuments) -> Select[Any]:
    chosen = _SELECT.where(where(BLOCK_DOCUMENT, body.block_documents or BlockDocumentFilter()))
    for table, column, other in (
        (BLOCK_TYPE, BLOCK_DOCUMENT.c.block_type_id, body.block_types),
        (BLOCK_SCHEMA, BLOCK_DOCUMENT.c.block_schema_id, body.block_schemas),
    ):
        if other is not None:
            chosen = chosen.where(column.in_(select(table.c.id).where(where(table, other))))
    return chosen


@implements(COUNT_BLOCK_DOCUMENTS, access="blocks:read")
def count_block_documents(tx: Tx, body: CountBlockDocuments) -> int:
    """How many blocks filters find."""
    return count_of(tx, _chosen(body))


@implements(READ_BLOCK_DOCUMENTS, access="blocks:read")
def read_block_documents(tx: Tx, body: ReadBlockDocuments) -> list[BlockDocument]:
    """The blocks that filters find."""
    _check_secrets(tx, body.include_secrets)
    chosen = _chosen(body)
    sort = body.sort or BlockDocumentSort.NAME_ASC
    if sort is BlockDocumentSort.BLOCK_TYPE_AND_NAME_ASC:
        slug = select(BLOCK_TYPE.c.slug).where(BLOCK_TYPE.c.id == BLOCK_DOCUMENT.c.block_type_id).scalar_subquery()
        chosen, sort = chosen.order_by(slug), BlockDocumentSort.NAME_ASC
    chosen = ordered(chosen, BLOCK_DOCUMENT, sort).limit(page_size(body.limit)).offset(body.offset)
    return Shelf(tx, tx.execute(chosen).all()).documents(secrets=body.include_secrets)


@implements(READ_BLOCK_DOCUMENTS_FOR_BLOCK_TYPE, access="blocks:read")
def read_block_documents_for_block_type(tx: Tx, slug: str, include_secrets: bool = False) -> list[BlockDocument]:
    """The blocks of the type of a slug, but for anonymous ones."""
    _check_secrets(tx, include_secrets)
    kind = read_block_type_by_slug(tx, slug)
    own = _SELECT.where(BLOCK_DOCUMENT.c.block_type_id == kind.id, BLOCK_DOCUMENT.c.is_anonymous.is_(False))
    chosen = ordered(own, BLOCK_DOCUMENT, BlockDocumentSort.NAME_ASC).limit(page_size(None))
    return Shelf(tx, tx.execute(chosen).all()).documents(secrets=include_secrets)


@implements(UPDATE_BLOCK_DOCUMENT_DATA, access="blocks:write")
def update_block_document_data(tx: Tx, id: UUID, body: BlockDocumentUpdate) -> None:
    """Change a block's values, and with them its schema, if it is said."""
    shelf, block = _find(tx, id, lock=True)
    schema = block.schema
    if body.block_schema_id is not None:
        schema = _schema_for(tx, body.block_schema_id, block.block_type_id)
    paths = secret_paths(schema.fields)
    own, references = _split(tx, body.data)
    shown = shelf.document(block, secrets=False).data
    same = {name for name in own.keys() & block.references if own[name] == shown.get(name)}  # read and sent back
    own = restored(own, shelf.values(block, secrets=True), paths)
    references |= {name: block.references[name] for name in same}
    own = {name: value for name, value in own.items() if name not in same}
    if body.merge_existing_data:
        laid_open = {path.partition(".")[0] for path in set(block.secrets) - set(paths)}  # S12
        kept = {name: value for name, value in block.data.items() if name not in laid_open}
        own, references = _merged(kept, own, references), _merged(block.references, references, own)
    changes = {"block_schema_id": schema.id, "references": references, "updated": tx.now, **seal(tx, own)}
    tx.execute(update(BLOCK_DOCUMENT).where(BLOCK_DOCUMENT.c.id == id).values(changes))
    _told(tx, "updated", id)


def _merged(before: dict[str, Any], now: dict[str, Any], elsewhere: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in before.items() if name not in elsewhere} | now


@implements(DELETE_BLOCK_DOCUMENT, access="blocks:write")
def delete_block_document(tx: Tx, id: UUID) -> None:
    """Delete a block; blocks that refer to it lose what it stood for."""
    if not delete_documents(tx, BLOCK_DOCUMENT.c.id == id):
        raise ObjectNotFound("Block document", id)
