"""Deleting blocks, with what belongs to them, and the events that tell of blocks."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Table, delete, select

from headrace.schemas.block_secrets import masked
from headrace.server.events.log import tell_of
from headrace.server.operations.block_reading import Shelf, StoredBlock
from headrace.server.store.long_lists import among
from headrace.server.store.tables import BLOCK_DOCUMENT, BLOCK_SCHEMA, CONFIGURATION
from headrace.server.store.transaction import Tx
from headrace.settings.secret import STARS

RESULT_STORAGE = "default_result_storage"
"""Where the configuration keeps the id of the block that says where results go."""


def tell_of_block(tx: Tx, what: str, block: StoredBlock) -> None:
    """Write the event that a block was created, updated or deleted; of its values, texts that are no secrets."""
    shown = masked(block.data, block.secrets).items()
    kind = {"id": block.type.id, "name": block.type.name}
    payload = {
        "name": block.name,
        "data": {name: value for name, value in shown if isinstance(value, str) and value != STARS},
        "block_schema": {"capabilities": block.schema.capabilities, "block_type": kind},
    }
    related = [
        {
            "prefect.resource.id": f"prefect.block-type.{block.type.id}",
            "prefect.resource.role": "block-type",
            "prefect.resource.name": block.type.name,
        },
        {"prefect.resource.id": f"prefect.block-schema.{block.schema.id}", "prefect.resource.role": "block-schema"},
    ]
    tell_of(tx, "block-document", what, block.id, block.name, payload=payload, related=related)


def delete_documents(tx: Tx, condition: ColumnElement[bool]) -> int:
    """Delete the documents for which a condition holds; blocks that refer to them lose those values."""
    rows = tx.execute(select(BLOCK_DOCUMENT).where(condition)).all()
    blocks = Shelf(tx, rows).blocks
    ids: list[Any] = [row.id for row in rows]
    note = CONFIGURATION.c.key == RESULT_STORAGE
    if tx.execute(select(CONFIGURATION.c.value).where(note)).scalar_one_or_none() in [str(id) for id in ids]:
        tx.execute(delete(CONFIGURATION).where(note))
    for id in ids:
        if id in blocks:  # one that cannot be read goes without a word
            tell_of_block(tx, "deleted", blocks[id])
    return tx.execute(delete(BLOCK_DOCUMENT).where(among(BLOCK_DOCUMENT.c.id, ids))).rowcount


def delete_schemas(tx: Tx, condition: ColumnElement[bool]) -> int:
    """Delete the block schemas for which a condition holds, with their blocks."""
    locked = select(BLOCK_SCHEMA.c.id).where(condition).order_by(BLOCK_SCHEMA.c.id).with_for_update()  # G16
    ids = list(tx.execute(locked).scalars())
    delete_documents(tx, among(BLOCK_DOCUMENT.c.block_schema_id, ids))
    return tx.execute(delete(BLOCK_SCHEMA).where(among(BLOCK_SCHEMA.c.id, ids))).rowcount


def keep(tx: Tx, table: Table, id: UUID) -> None:
    """Keep a block type or schema, if it is there, from being deleted before this transaction ends.  # G16"""
    tx.execute(select(table.c.id).where(table.c.id == id).with_for_update(read=True, key_share=True)).all()
