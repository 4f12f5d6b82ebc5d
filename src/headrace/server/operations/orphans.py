"""What refers to things that are gone: log lines and artifacts of flow runs, and keys without their latest artifact."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, Table, delete, select

from headrace.server.operations.artifacts import delete_artifacts
from headrace.server.store.long_lists import among
from headrace.server.store.tables import ARTIFACT, ARTIFACT_COLLECTION, FLOW_RUN, LOG
from headrace.server.store.transaction import Tx

_KEYS = ARTIFACT_COLLECTION.c


class Page(NamedTuple):
    """What one look has found, and where the next one begins; None when all was looked at."""

    found: Sequence[Any]
    last: Any


def vanished_runs(tx: Tx, table: Table, after: UUID | None, limit: int) -> Page:
    """The ids of flow runs that are gone and that rows still name.

    Args:
        tx: a transaction.
        table: whose rows: log lines or artifacts.
        after: look at greater ids only.
        limit: at how many ids it looks.
    """
    named = [id for id in tx.execute(_named(table, after, limit)).scalars() if isinstance(id, UUID)]  # G13
    there = set(tx.execute(select(FLOW_RUN.c.id).where(among(FLOW_RUN.c.id, named))).scalars())
    return Page([id for id in named if id not in there], named[-1] if named else None)


def _named(table: Table, after: UUID | None, limit: int) -> Select[Any]:
    """The different ids of flow runs in a table, each found in its index behind the one before."""
    ids = table.c.flow_run_id
    one = select(ids).order_by(ids).limit(1)
    first = one.where(ids.is_not(None) if after is None else ids > after).subquery()
    named = select(first.c.flow_run_id.label("id")).cte("named", recursive=True)
    following = one.where(ids > named.c.id).correlate(named).scalar_subquery()
    named = named.union_all(select(following).where(named.c.id.is_not(None)))
    return select(named.c.id).where(named.c.id.is_not(None)).limit(limit)


def delete_lines(tx: Tx, run_id: UUID, limit: int) -> int:
    """Delete log lines of a flow run that is gone; how many were, `limit` of them at most."""
    ids = _left_behind(tx, LOG, run_id, limit)
    tx.execute(delete(LOG).where(among(LOG.c.id, ids)))
    return len(ids)


def delete_left_artifacts(tx: Tx, run_id: UUID, limit: int) -> int:
    """Delete artifacts of a flow run that is gone; how many were, `limit` of them at most."""
    ids = _left_behind(tx, ARTIFACT, run_id, limit)
    delete_artifacts(tx, ids)
    return len(ids)


def _left_behind(tx: Tx, table: Table, run_id: UUID, limit: int) -> list[UUID]:
    if tx.execute(select(FLOW_RUN.c.id).where(FLOW_RUN.c.id == run_id)).first() is not None:
        return []
    return list(tx.execute(select(table.c.id).where(table.c.flow_run_id == run_id).limit(limit)).scalars())


def keys_without_latest(tx: Tx, after: str, limit: int) -> Page:
    """The keys of artifacts whose latest one is gone.

    Args:
        tx: a transaction.
        after: look at later keys only.
        limit: at how many keys it looks.
    """
    latest = ARTIFACT_COLLECTION.outerjoin(ARTIFACT, ARTIFACT.c.id == _KEYS.latest_id)
    keys = select(_KEYS.key, ARTIFACT.c.id).select_from(latest).where(_KEYS.key > after)
    rows = tx.execute(keys.order_by(_KEYS.key).limit(limit)).all()
    return Page([row.key for row in rows if row.id is None], rows[-1].key if rows else None)
