"""Statements each database says in its own words: inserting what may be there already.  # G19"""

from typing import Any

from sqlalchemy import ColumnElement, select

from headrace._internal.clock import ManualClock
from headrace._internal.ids import uuid7
from headrace.server.store.statements import Columns, insert_ignore, upsert
from headrace.server.store.tables import FLOW
from headrace.server.store.transaction import Store, Tx


def row(tx: Tx, name: str, tag: str) -> dict[str, Any]:
    """A flow."""
    return {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": name, "tags": [tag], "labels": {}}


def tags(tx: Tx) -> dict[str, list[str]]:
    """The tags of every flow."""
    return {row.name: row.tags for row in tx.execute(select(FLOW.c.name, FLOW.c.tags))}


def newer(new: Columns) -> ColumnElement[bool]:
    """Whether the new row was made later than the one that is there."""
    return FLOW.c.updated < new["updated"]


def test_what_is_there_is_passed_over(store: Store) -> None:
    """Of the rows given, those that are there stay as they were; the others are inserted and counted."""
    first = store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, "a", "old")], index=["name"]))

    second = store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, name, "new") for name in "abc"], index=["name"]))

    assert (first, second) == (1, 2)
    assert store.read(tags) == {"a": ["old"], "b": ["new"], "c": ["new"]}


def test_any_unique_index_counts_when_none_is_named(store: Store) -> None:
    """Without an index, whatever makes a row a double is reason to pass it over."""
    store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, "a", "old")]))

    assert store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, "a", "new")])) == 0


def test_large_batches_are_inserted_and_counted(store: Store) -> None:
    """Thousands of rows in one call."""
    batch = [f"flow {number}" for number in range(3_000)]

    assert (
        store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, name, "") for name in batch], index=["name"])) == 3_000
    )
    assert store.write(lambda tx: insert_ignore(tx, FLOW, [row(tx, name, "") for name in batch], index=["name"])) == 0
    assert len(store.read(tags)) == 3_000


def test_no_rows_are_no_statement(store: Store) -> None:
    """An empty list does nothing."""
    assert store.write(lambda tx: insert_ignore(tx, FLOW, [])) == 0
    assert store.write(lambda tx: upsert(tx, FLOW, [], index=["name"], update=["tags"])) == 0


def test_an_upsert_changes_only_what_it_is_told(store: Store, clock: ManualClock) -> None:
    """The columns named take over the new values; the id and the others stay."""

    def whole(tx: Tx) -> dict[str, Any]:
        return dict(tx.execute(select(FLOW)).mappings().one())

    store.write(lambda tx: upsert(tx, FLOW, [row(tx, "a", "old")], index=["name"], update=["tags"]))
    before = store.read(whole)
    clock.advance(1)
    count = store.write(lambda tx: upsert(tx, FLOW, [row(tx, "a", "new")], index=["name"], update=["tags"]))

    assert count == 1
    assert store.read(whole) == before | {"tags": ["new"]}


def test_an_upsert_may_be_held_to_a_condition(store: Store, clock: ManualClock) -> None:
    """Where the condition does not hold the row stays as it is, and is not counted."""

    def put(name: str, tag: str) -> int:
        return store.write(
            lambda tx: upsert(tx, FLOW, [row(tx, name, tag)], index=["name"], update=["tags", "updated"], where=newer)
        )

    put("a", "first")
    same_moment = put("a", "again")
    clock.advance(1)
    later = put("a", "later")

    assert (same_moment, later) == (0, 1)
    assert store.read(tags) == {"a": ["later"]}
