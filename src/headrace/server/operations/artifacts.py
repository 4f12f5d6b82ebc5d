"""Artifacts: creating, reading, changing, deleting and finding them, and the latest of each key."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import asdict
from sqlalchemy import Row, Select, delete, exists, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectNotFound
from headrace.schemas.artifacts import (
    COUNT_ARTIFACTS,
    COUNT_LATEST_ARTIFACTS,
    CREATE_ARTIFACT,
    DELETE_ARTIFACT,
    READ_ARTIFACT,
    READ_ARTIFACTS,
    READ_LATEST_ARTIFACT,
    READ_LATEST_ARTIFACTS,
    UPDATE_ARTIFACT,
    Artifact,
    ArtifactCollection,
    ArtifactCreate,
    ArtifactUpdate,
    CountArtifacts,
    CountLatestArtifacts,
    ReadArtifacts,
    ReadLatestArtifacts,
)
from headrace.server.events.log import related_to, tell_of
from headrace.server.operations.paging import chosen_rows, count_of, listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.store.filters import scoped, where
from headrace.server.store.long_lists import among
from headrace.server.store.statements import upsert
from headrace.server.store.tables import ARTIFACT, ARTIFACT_COLLECTION
from headrace.server.store.transaction import Tx

_SELECT = select(ARTIFACT)
_KEYS = ARTIFACT_COLLECTION.c
_LATEST = select(
    *(ARTIFACT.c[name] for name in Artifact.__struct_fields__ if name not in ("id", "created", "updated")),
    _KEYS.id,
    _KEYS.created,
    _KEYS.updated,
    _KEYS.latest_id,
).join_from(ARTIFACT_COLLECTION, ARTIFACT, ARTIFACT.c.id == _KEYS.latest_id)


def _read_row(row: Row[Any]) -> Artifact:
    return msgspec.convert(values_of(row), Artifact)


def _read_latest(row: Row[Any]) -> ArtifactCollection:
    return msgspec.convert(values_of(row), ArtifactCollection)


@implements(CREATE_ARTIFACT, access="artifacts:write")
def create_artifact(tx: Tx, body: ArtifactCreate) -> Artifact:
    """Create an artifact; from now on it is the latest of its key."""
    artifact = Artifact(id=uuid7(), created=tx.now, updated=tx.now, **asdict(body))
    tx.execute(ARTIFACT.insert(), asdict(artifact))
    if artifact.key is not None:
        row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "key": artifact.key, "latest_id": artifact.id}
        upsert(tx, ARTIFACT_COLLECTION, [row], index=["key"], update=["latest_id", "updated"])
        collection_id = tx.execute(select(_KEYS.id).where(_KEYS.key == artifact.key)).scalar_one()
        _tell(tx, "created" if collection_id == row["id"] else "updated", collection_id, artifact)
    return artifact


@implements(READ_ARTIFACT, access="artifacts:read")
def read_artifact(tx: Tx, id: UUID) -> Artifact:
    """One artifact."""
    row = tx.execute(_SELECT.where(ARTIFACT.c.id == id)).one_or_none()
    if row is None:
        raise ObjectNotFound("Artifact", id)
    return _read_row(row)


@implements(READ_LATEST_ARTIFACT, access="artifacts:read")
def read_latest_artifact(tx: Tx, key: str) -> Artifact:
    """The latest artifact of a key."""
    latest = select(_KEYS.latest_id).where(_KEYS.key == key).scalar_subquery()
    row = tx.execute(_SELECT.where(ARTIFACT.c.id == latest)).one_or_none()
    if row is None:
        raise ObjectNotFound("Artifact", key)
    return _read_row(row)


@implements(UPDATE_ARTIFACT, access="artifacts:write")
def update_artifact(tx: Tx, id: UUID, body: ArtifactUpdate) -> None:
    """Change an artifact."""
    changes = {name: value for name, value in asdict(body).items() if value is not UNSET}
    if not tx.execute(update(ARTIFACT).where(ARTIFACT.c.id == id).values(**changes, updated=tx.now)).rowcount:
        raise ObjectNotFound("Artifact", id)
    key = select(ARTIFACT.c.key).where(ARTIFACT.c.id == id).scalar_subquery()
    tx.execute(update(ARTIFACT_COLLECTION).where(_KEYS.key == key, _KEYS.latest_id == id).values(updated=tx.now))


@implements(DELETE_ARTIFACT, access="artifacts:write")
def delete_artifact(tx: Tx, id: UUID) -> None:
    """Delete an artifact; the one before it becomes the latest of its key."""
    artifact = read_artifact(tx, id)
    tx.execute(delete(ARTIFACT).where(ARTIFACT.c.id == id))
    if artifact.key is not None:
        settle_latest(tx, [artifact.key], artifact)


def delete_artifacts(tx: Tx, ids: Sequence[UUID]) -> None:
    """Delete artifacts; those that are left become the latest of their keys.

    Args:
        tx: a writing transaction.
        ids: those that are gone already are passed over.
    """
    of_these = among(ARTIFACT.c.id, ids)
    keys = tx.execute(select(ARTIFACT.c.key).distinct().where(of_these, ARTIFACT.c.key.is_not(None))).scalars().all()
    tx.execute(delete(ARTIFACT).where(of_these))
    settle_latest(tx, keys)


def settle_latest(tx: Tx, keys: Sequence[str], gone: Artifact | None = None) -> None:
    """See that keys whose latest artifact is gone have the newest that is left, or are gone as well.

    Args:
        tx: a writing transaction.
        keys: which; those whose latest artifact is there stay as they are.
        gone: the artifact that was the latest of the only key, if it is known.
    """
    lost = select(ARTIFACT_COLLECTION).where(among(_KEYS.key, keys), ~exists().where(ARTIFACT.c.id == _KEYS.latest_id))
    for row in tx.execute(lost.order_by(_KEYS.id).with_for_update()).all():
        versions = _SELECT.where(ARTIFACT.c.key == row.key).order_by(ARTIFACT.c.created.desc(), ARTIFACT.c.id.desc())
        before = tx.execute(versions.limit(1)).one_or_none()
        if before is None:
            last = gone or Artifact(id=row.latest_id, created=row.created, updated=row.updated, key=row.key)
            tx.execute(delete(ARTIFACT_COLLECTION).where(_KEYS.id == row.id))
            _tell(tx, "deleted", row.id, last)
        else:
            changes = {"latest_id": before.id, "updated": tx.now}
            tx.execute(update(ARTIFACT_COLLECTION).where(_KEYS.id == row.id).values(changes))
            _tell(tx, "updated", row.id, _read_row(before))


@implements(READ_ARTIFACTS, access="artifacts:read")
def read_artifacts(tx: Tx, body: ReadArtifacts) -> list[Artifact]:
    """The artifacts that filters find."""
    limit = page_size(body.limit)
    rows = chosen_rows(tx, "artifacts", lambda: _narrowed(_SELECT, body), ARTIFACT, body, limit, body.offset)
    return listed(rows, _read_row, "artifact")


@implements(COUNT_ARTIFACTS, access="artifacts:read")
def count_artifacts(tx: Tx, body: CountArtifacts) -> int:
    """How many artifacts filters find."""
    return count_of(tx, _narrowed(select(ARTIFACT.c.id), body))


@implements(READ_LATEST_ARTIFACTS, access="artifacts:read")
def read_latest_artifacts(tx: Tx, body: ReadLatestArtifacts) -> list[ArtifactCollection]:
    """The latest artifact of each key that filters find."""
    limit, table = page_size(body.limit), ARTIFACT_COLLECTION
    rows = chosen_rows(tx, "latest artifacts", lambda: _narrowed(_LATEST, body), table, body, limit, body.offset)
    return listed(rows, _read_latest, "artifact")


@implements(COUNT_LATEST_ARTIFACTS, access="artifacts:read")
def count_latest_artifacts(tx: Tx, body: CountLatestArtifacts) -> int:
    """How many keys filters find."""
    return count_of(tx, _narrowed(_LATEST, body))


def _narrowed(statement: Select[Any], body: CountArtifacts | CountLatestArtifacts) -> Select[Any]:
    return scoped(
        statement.where(where(ARTIFACT, body.artifacts)),
        ARTIFACT,
        flows=body.flows,
        flow_runs=body.flow_runs,
        task_runs=body.task_runs,
        deployments=body.deployments,
    )


def _tell(tx: Tx, what: str, collection_id: UUID, latest: Artifact) -> None:
    related = [related_to("artifact", latest.id, role="latest")]
    if latest.flow_run_id is not None:
        related.append(related_to("flow-run", latest.flow_run_id))
    if latest.task_run_id is not None:
        related.append(related_to("task-run", latest.task_run_id))
    payload = {name: getattr(latest, name) for name in ("key", "type", "data", "description")}
    tell_of(tx, "artifact-collection", what, collection_id, latest.key or "", payload=payload, related=related)
