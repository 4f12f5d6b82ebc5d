"""Saved searches: keeping, reading and deleting them."""

from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, delete, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.saved_searches import (
    CREATE_SAVED_SEARCH,
    DELETE_SAVED_SEARCH,
    READ_SAVED_SEARCH,
    READ_SAVED_SEARCHES,
    ReadSavedSearches,
    SavedSearch,
    SavedSearchCreate,
)
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import Existing, implements
from headrace.server.operations.rows import values_of
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import SAVED_SEARCH
from headrace.server.store.transaction import Tx

_SELECT = select(SAVED_SEARCH)


def _read_row(row: Row[Any]) -> SavedSearch:
    return msgspec.convert(values_of(row), SavedSearch)


@implements(CREATE_SAVED_SEARCH, access="searches:write")
def create_saved_search(tx: Tx, body: SavedSearchCreate) -> SavedSearch | Existing:
    """Keep a search under its name, in place of the one that has it."""
    row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": body.name, "filters": body.filters}
    known = not insert_ignore(tx, SAVED_SEARCH, [row], index=["name"])
    of_name = SAVED_SEARCH.c.name == body.name
    if known:
        tx.execute(update(SAVED_SEARCH).where(of_name).values(filters=body.filters, updated=tx.now))
    kept = _read_row(tx.execute(_SELECT.where(of_name)).one())
    return Existing(kept) if known else kept


@implements(READ_SAVED_SEARCH, access="searches:read")
def read_saved_search(tx: Tx, id: UUID) -> SavedSearch:
    """One saved search."""
    row = tx.execute(_SELECT.where(SAVED_SEARCH.c.id == id)).one_or_none()
    if row is None:
        raise ObjectNotFound("Saved search", id)
    return _read_row(row)


@implements(READ_SAVED_SEARCHES, access="searches:read")
def read_saved_searches(tx: Tx, body: ReadSavedSearches) -> list[SavedSearch]:
    """All saved searches, by name."""
    chosen = _SELECT.order_by(SAVED_SEARCH.c.name).limit(page_size(body.limit)).offset(body.offset)
    return listed(tx.execute(chosen), _read_row, "saved search")


@implements(DELETE_SAVED_SEARCH, access="searches:write")
def delete_saved_search(tx: Tx, id: UUID) -> None:
    """Delete a saved search."""
    if not tx.execute(delete(SAVED_SEARCH).where(SAVED_SEARCH.c.id == id)).rowcount:
        raise ObjectNotFound("Saved search", id)
