"""The events that the log holds of one object."""

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from headrace.server.store.tables import EVENT
from headrace.server.store.transaction import Store


def events_of(store: Store, kind: str, id: UUID) -> list[Row[Any]]:
    """The events about an object, in the order they were written."""
    chosen = select(EVENT).where(EVENT.c.resource_id == f"prefect.{kind}.{id}").order_by(EVENT.c.seq)
    return list(store.read(lambda tx: tx.execute(chosen).all()))
