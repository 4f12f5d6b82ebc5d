"""The event log: every change of a state or an object, written in the transaction that makes it.  # G8

An event that arrives twice changes nothing. Whoever reads along is told after the commit, by a hint.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec

from headrace._internal.ids import uuid7
from headrace.schemas.events import Event, Labels
from headrace.server.events import hints
from headrace.server.store.prepared import Prepared
from headrace.server.store.statements import ignoring
from headrace.server.store.tables import EVENT, EVENT_RELATED
from headrace.server.store.tables.types import aware
from headrace.server.store.transaction import Tx

LogRow = tuple[UUID, datetime, str, str, str, str, str, UUID | None]
"""An event as it is written: id, occurred, name, id of its resource; resource, related, payload as JSON; follows."""
Roles = Sequence[tuple[str, str]]
"""Related resources: the id and the role of each."""

_LOG = ("id", "occurred", "event", "resource_id", "resource", "related", "payload", "follows", "received")
_INDEX = ("resource_id", "occurred", "event_id", "role")
_encode = msgspec.json.Encoder().encode

NEWS = "events"
"""The topic on which readers of the log are told that it has grown."""
RESOURCE_ID, RESOURCE_NAME, RESOURCE_ROLE = "prefect.resource.id", "prefect.resource.name", "prefect.resource.role"
INSIDE = "prefect.task-run."
"""How the events are named that the index may lack under what they are related to: those inside flow runs."""
THROUGH_RUNS = tuple(f"prefect.{kind}." for kind in ("work-queue", "work-pool", "tag"))
"""How the ids of resources begin under which the index lacks what happened inside their flow runs; see `run_events`."""


def append(tx: Tx, events: Sequence[Event]) -> None:
    """Write events; those that are there already are passed over.

    Args:
        tx: a writing transaction, the one that does what the events tell of.
        events: each with `prefect.resource.id` in its resource, and that and a role in each related one.
    """
    append_rows(tx, [_row(event) for event in events], [_roles(event.related) for event in events])


def append_rows(tx: Tx, rows: Sequence[LogRow], related: Sequence[Roles]) -> None:
    """Write events that are rows already; see `append`.

    Args:
        tx: a writing transaction.
        rows: of the log.
        related: for each of them, what it is found by in the index of related resources.
    """
    if not rows:
        return
    tx.send_rows(_insert(tx.dialect), _LOG, [(*row, tx.now) for row in rows])
    found = [(id, row[1], row[0], role) for row, roles in zip(rows, related, strict=True) for id, role in roles]
    tx.send_rows(ignoring(tx.dialect, EVENT_RELATED), _INDEX, found)
    if _tell not in tx.callbacks:
        tx.after_commit(_tell)


@cache
def _insert(dialect: str) -> Prepared:
    return Prepared(ignoring(dialect, EVENT).statement, as_stored=("resource", "related", "payload"))


def tell_of(
    tx: Tx,
    kind: str,
    what: str,
    id: UUID,
    name: str,
    *,
    payload: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
    related: Sequence[Labels] = (),
    event_id: UUID | None = None,
    follows: UUID | None = None,
) -> None:
    """Write the event that something happened to an object: `prefect.<kind>.<what>`.

    Args:
        tx: the transaction that changes the object.
        kind: the kind of object as events name it, such as `work-pool`.
        what: what happened to it, such as `created`.
        id: the object.
        name: its name, for people.
        payload: what the event carries, see the list of events in the docs.
        labels: further labels of the resource.
        related: what else is concerned, see `related_to`.
        event_id: of the event; a new one when absent.
        follows: the event it comes after.
    """
    resource = {RESOURCE_ID: f"prefect.{kind}.{id}", RESOURCE_NAME: name, **(labels or {})}
    event = Event(
        occurred=tx.now,
        event=f"prefect.{kind}.{what}",
        resource=resource,
        related=list(related),
        payload=dict(payload or {}),
        id=event_id or uuid7(),
        follows=follows,
    )
    append(tx, [event])


def related_to(kind: str, id: UUID | str, name: str | None = None, *, role: str | None = None, **more: str) -> Labels:
    """The labels of a related resource.

    Args:
        kind: what it is, such as `work-queue`; also its role, unless one is given.
        id: which one.
        name: its name, for people.
        role: its part in what happened.
        more: further labels, by their names.
    """
    labels = {RESOURCE_ID: f"prefect.{kind}.{id}", RESOURCE_ROLE: role or kind}
    if name is not None:
        labels[RESOURCE_NAME] = name
    return labels | more


def _row(event: Event) -> LogRow:
    resource, related, payload = (json_text(part) for part in (event.resource, event.related, event.payload))
    name, resource_id = event.event, event.resource[RESOURCE_ID]
    return event.id, aware(event.occurred), name, resource_id, resource, related, payload, event.follows


def _roles(related: Sequence[Labels]) -> Roles:
    return [(labels[RESOURCE_ID], labels[RESOURCE_ROLE]) for labels in related]


def json_text(value: Any) -> str:
    """A value as the text of its JSON."""
    return _encode(value).decode()


def _tell() -> None:
    hints.publish(NEWS, {"type": "events"})
