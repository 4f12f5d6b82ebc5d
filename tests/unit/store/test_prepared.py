"""Prepared statements: the same values in and out as by SQLAlchemy, and errors that come when they may."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, literal, select, update
from sqlalchemy.exc import IntegrityError

from headrace._internal.ids import uuid7
from headrace.exceptions import ValidationFailed
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import ARTIFACT, FLOW
from headrace.server.store.transaction import Store, Tx

_ADD = Prepared(FLOW.insert())
_OF_NAME = Prepared(select(FLOW).where(FLOW.c.name == bindparam("wanted")))
_RENAME = Prepared(update(FLOW).where(FLOW.c.name == bindparam("old")).values(name=bindparam("new")))
_ALL_NAMES = Prepared(select(FLOW.c.name))
_NAMES = Prepared(select(FLOW.c.name).order_by(FLOW.c.name).limit(2))


def flow(tx: Tx, name: str | None, **more: Any) -> dict[str, Any]:
    """The row of a flow."""
    return {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": name, "tags": ["a"], "labels": {}, **more}


def names(store: Store) -> list[str]:
    """The names of all flows, in their order."""
    return [row.name for row in store.read(lambda tx: tx.execute(select(FLOW.c.name).order_by(FLOW.c.name)).all())]


def test_rows_are_those_of_sqlalchemy(store: Store) -> None:
    """Ids, moments, JSON and texts come back as they went in, by name and in order."""
    made: dict[str, Any] = store.write(
        lambda tx: (row := flow(tx, "ä", labels={"n": [1, None]}), tx.send(_ADD, row))[0]
    )
    row = store.read(lambda tx: tx.execute(_OF_NAME, {"wanted": "ä"}).one())
    plain: Any = store.read(lambda tx: tx.execute(select(FLOW).where(FLOW.c.name == "ä")).one())
    assert (row._fields, tuple(row)) == (tuple(plain._fields), tuple(plain))
    assert row._asdict() == made
    assert isinstance(row.id, UUID)


def test_several_rows_and_none(store: Store) -> None:
    """One statement takes many rows; what finds nothing, or too much, says so as asked."""

    def job(tx: Tx) -> None:
        tx.send(_ADD, [flow(tx, name) for name in "cab"])
        tx.send(_ADD, [])
        assert [row.name for row in tx.execute(_NAMES)] == ["a", "b"]  # a value of its own: the limit
        assert tx.execute(_NAMES).scalar() == "a"
        assert tx.execute(_OF_NAME, {"wanted": "z"}).one_or_none() is None
        assert tx.execute(_OF_NAME, {"wanted": "z"}).scalar() is None
        with pytest.raises(LookupError, match="none was found"):
            tx.execute(_OF_NAME, {"wanted": "z"}).one()
        with pytest.raises(LookupError, match="2 were found"):
            tx.execute(_NAMES).one_or_none()

    store.write(job)
    assert names(store) == ["a", "b", "c"]


def test_more_at_once_than_a_socket_holds(store: Store) -> None:
    """Six hundred rows of a long text each, and then their lengths."""
    long = "x" * 30_000
    store.write(lambda tx: tx.send(_ADD, [flow(tx, f"{number}{long}") for number in range(600)]))
    assert store.read(lambda tx: [len(row.name) >= 30_001 for row in tx.execute(_ALL_NAMES)]) == [True] * 600


def test_the_rows_a_change_concerned_are_counted(store: Store) -> None:
    """One when it was there, none when not."""
    store.write(lambda tx: tx.send(_ADD, flow(tx, "a")))
    change = {"old": "a", "new": "b"}
    assert store.write(lambda tx: tx.execute(_RENAME, change).rowcount) == 1
    assert store.write(lambda tx: tx.execute(_RENAME, change).rowcount) == 0


def test_values_that_are_stored_as_they_are(store: Store) -> None:
    """JSON that is text already goes in as it is and comes out as a value."""
    insert = Prepared(ARTIFACT.insert(), as_stored=["data"])
    row = {"id": uuid7(), "key": "k", "data": '{"a": [1]}', "metadata_": {}}
    store.write(lambda tx: tx.send(insert, {**row, "created": tx.now, "updated": tx.now}))
    assert store.read(lambda tx: tx.execute(select(ARTIFACT.c.data)).scalar()) == {"a": [1]}


def test_a_text_that_depends_on_its_values_is_refused(store: Store) -> None:
    """IN with a list is SQLAlchemy's to expand."""
    statement = Prepared(select(FLOW.c.id).where(FLOW.c.name.in_(bindparam("names", expanding=True))))
    with pytest.raises(TypeError, match="depends on its values"):
        store.read(lambda tx: tx.execute(statement, {"names": ["a"]}))


def test_g13_what_was_sent_fails_at_the_latest_with_the_commit(store: Store) -> None:
    """The caller hears of it, nothing is stored, and the connection serves the next one."""

    def job(tx: Tx) -> None:
        tx.send(_ADD, flow(tx, "a"))
        tx.send(_ADD, flow(tx, None))
        tx.send(_ADD, flow(tx, "b"))

    for _ in range(10):
        with pytest.raises(IntegrityError):
            store.write(job)
    store.write(lambda tx: tx.send(_ADD, flow(tx, "c")))
    assert names(store) == ["c"]


def test_g13_what_could_not_be_prepared_takes_no_name_of_another(store: Store) -> None:
    """After an error, statements that are new to the connection are prepared as before."""
    for number in range(4):
        with pytest.raises(IntegrityError):
            store.write(lambda tx: tx.send(_ADD, flow(tx, None)))
        fresh = Prepared(select(FLOW.c.id, literal(number)).where(FLOW.c.name == bindparam("wanted")))
        other = Prepared(select(FLOW.c.id, literal(-number)).where(FLOW.c.name == bindparam("wanted")))
        wrong = Prepared(FLOW.insert().values(id=bindparam("zero"), tags=bindparam("one"), name=bindparam("two")))

        def failing(tx: Tx, wrong: Prepared = wrong, other: Prepared = other) -> None:
            tx.send(wrong, {"zero": uuid7(), "one": [], "two": None})
            tx.execute(other, {"wanted": "a"})

        with pytest.raises(IntegrityError):
            store.write(failing)
        store.write(lambda tx, fresh=fresh: tx.execute(fresh, {"wanted": "a"}))  # type: ignore[misc]
        store.write(lambda tx, other=other: tx.execute(other, {"wanted": "a"}))  # type: ignore[misc]


def test_g13_a_value_that_does_not_fit_is_the_callers(store: Store) -> None:
    """Half a character is told of as what the caller can mend."""
    with pytest.raises(ValidationFailed, match="cannot be stored"):
        store.write(lambda tx: tx.send(_ADD, flow(tx, "\ud800")))
    assert names(store) == []


def test_g13_a_part_that_fails_is_undone_alone(store: Store) -> None:
    """What was before and after it is stored, again and again on the same store, also by SQLAlchemy's statements."""

    def refused(tx: Tx, number: int) -> None:
        with tx.part():
            tx.send(_ADD, [flow(tx, f"{number}-{one}") for one in range(8)])
            tx.send(_ADD, flow(tx, None))
            tx.send(_RENAME, {"old": "a", "new": "b"})

    def given_up(tx: Tx) -> None:
        with tx.part():
            tx.execute(FLOW.insert(), flow(tx, "undone"))
            raise RuntimeError("of the caller")

    def job(tx: Tx, number: int) -> None:
        tx.send(_ADD, flow(tx, f"{number}-before"))
        with pytest.raises(IntegrityError):
            refused(tx, number)
        with pytest.raises(RuntimeError, match="of the caller"):
            given_up(tx)
        with tx.part():
            tx.execute(FLOW.insert(), flow(tx, f"{number}-after"))

    for number in range(8):
        store.write(lambda tx, number=number: job(tx, number))  # type: ignore[misc]
    assert names(store) == sorted(f"{number}-{when}" for number in range(8) for when in ("before", "after"))


def test_many_rows_are_stored_as_each_would_be(store: Store) -> None:
    """Also where all have the same value, or none, and in the year 9999."""
    late = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    naive, early = datetime(2026, 1, 1), datetime(1900, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    ids, labels = [uuid7() for _ in range(3)], {"a": "b"}
    rows = [
        {"id": id, "created": moment, "updated": late, "name": str(id), "tags": ["a"], "labels": labels}
        for id, moment in zip(ids, (naive, early, late), strict=True)
    ]
    store.write(lambda tx: tx.send(_ADD, rows))

    chosen = select(FLOW.c.id, FLOW.c.created, FLOW.c.updated, FLOW.c.labels).order_by(FLOW.c.id)
    stored = store.read(lambda tx: [tuple(row) for row in tx.execute(chosen)])
    moments = (naive.replace(tzinfo=UTC), early, late)
    assert stored == [(id, moment, late, labels) for id, moment in zip(ids, moments, strict=True)]


def test_rows_that_are_all_the_same_come_to_an_end(store: Store) -> None:
    """A statement whose every value is the same in all rows is run as often as there are rows."""
    store.write(lambda tx: tx.send(_ADD, [flow(tx, name) for name in "ab"]))
    same = {"old": "a", "new": "c"}
    assert store.write(lambda tx: tx.count(_RENAME, [same, same, same])) == 1
    assert names(store) == ["b", "c"]
