"""The index of the tags of runs: writing it, and finding runs by it.

It serves two questions: which runs have a tag that few have, and (in `lookups`) how many have a tag. A list is only
narrowed by it: the tags in the rows decide. Where many runs have a tag each run is asked, as the ids of a million would
be collected before the first of them is looked at.

The tags of a task run are made with it and never change; so its records only ever add to the index.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import Table, select

from headrace.schemas.filters import IdIn, Operator
from headrace.server.store.filters import given
from headrace.server.store.long_lists import among
from headrace.server.store.tables import FLOW_RUN_TAG, TASK_RUN_TAG
from headrace.server.store.tables.tags import LONGEST
from headrace.server.store.transaction import Tx
from headrace.settings import get_settings

BodyT = TypeVar("BodyT", bound=Struct)

SELDOM = 5_000
"""So many runs at most have a tag that is looked up, which takes some twenty milliseconds."""
_MOST = 10
"""So many of the tags that a run must all have are asked about."""
INDEXES = {"flow_runs": FLOW_RUN_TAG, "task_runs": TASK_RUN_TAG}
_INSERTS = {
    "sqlite": "INSERT INTO {} (tag, run_id) VALUES (?, ?) ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO {} (tag, run_id) SELECT * FROM unnest(%s::text[], %s::uuid[]) ON CONFLICT DO NOTHING",
}


def index_tags(tx: Tx, index: Table, runs: Iterable[tuple[UUID, Sequence[str]]]) -> None:
    """Write which tags runs have, in the transaction that writes the runs; without tags it does nothing.

    Args:
        tx: a writing transaction.
        index: FLOW_RUN_TAG or TASK_RUN_TAG.
        runs: ids and tags.
    """
    rows = [(tag, id) for id, tags in runs if tags for tag in tags if len(tag) <= LONGEST]
    if rows:
        stored: Any = [(tag, id.bytes) for tag, id in rows]
        if tx.dialect == "postgresql":  # two arrays travel in one statement, however many rows
            stored = tuple(list(column) for column in zip(*rows, strict=True))
        # past SQLAlchemy, which takes more time to convert a row than a database to write it
        tx.connection.exec_driver_sql(_INSERTS[tx.dialect].format(index), stored)


def narrowed(tx: Tx, body: BodyT) -> BodyT:
    """A body whose filters of runs name the ids of those that have a tag, if it asks for one that few have."""
    for name, index in INDEXES.items():
        chosen = getattr(body, name)
        ids = None if chosen is None or chosen.tags is None else _seldom(tx, index, chosen)
        if ids is not None:
            body = replace(body, **{name: replace(chosen, id=IdIn(any_=ids))})
    return body


def _seldom(tx: Tx, index: Table, chosen: Any) -> list[UUID] | None:
    most = min(SELDOM, get_settings().server.limits.filter_ids)
    if chosen.id is not None or Operator.or_ in (chosen.operator, chosen.tags.operator):
        return None
    tags = dict(given(chosen.tags))
    for asked in (tags.get("any_"), *([tag] for tag in tags.get("all_", [])[:_MOST])):
        if asked and all(len(tag) <= LONGEST for tag in asked):
            found = select(index.c.run_id).where(among(index.c.tag, asked))
            if tx.execute(found.offset(most).limit(1)).first() is None:
                return list(tx.execute(found).scalars())
    return None
