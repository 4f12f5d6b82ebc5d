"""API keys: made, listed and revoked by administrators. What a server process does with them is in `http/auth.py`."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Row, delete, select, update

from headrace._internal.ids import uuid7
from headrace.exceptions import ObjectAlreadyExists, ObjectNotFound, ValidationFailed
from headrace.schemas.api_keys import CREATE_API_KEY, DELETE_API_KEY, READ_API_KEYS, ApiKey, ApiKeyCreate, NewApiKey
from headrace.server.events.log import tell_of
from headrace.server.operations.paging import listed
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.store.statements import insert_ignore
from headrace.server.store.tables import API_KEY
from headrace.server.store.tables.types import aware
from headrace.server.store.transaction import Tx

PREFIX = "hr_"
"""What every key begins with, so that scanners of source code know a leaked one."""
NOTE_USE_AFTER = timedelta(minutes=5)
"""A use is written down when the last one known is older than this.  # S5"""


def digest_of(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode(errors="replace")).digest()


def _read_row(row: Row[Any]) -> ApiKey:
    return msgspec.convert(values_of(row), ApiKey)


@implements(CREATE_API_KEY, access="keys:write")
def create_api_key(tx: Tx, body: ApiKeyCreate) -> NewApiKey:
    """Make an API key; this answer is the only one that holds it."""
    if any(one.startswith("keys:") for one in body.permissions):
        raise ValidationFailed("Only `admin` may administer keys, for whoever makes keys can make themselves any.")
    if body.work_pool is not None and "admin" in body.permissions:
        raise ValidationFailed("An administrator is not bound to a work pool. Leave out one of the two.")
    expires = None if body.expires is None else aware(body.expires)
    if expires is not None and expires <= tx.now:
        raise ValidationFailed("The key would have expired already. Give a moment to come.")
    key = PREFIX + secrets.token_urlsafe(32)
    made = NewApiKey(
        id=uuid7(),
        created=tx.now,
        name=body.name,
        permissions=sorted(set(body.permissions)),
        work_pool=body.work_pool,
        expires=expires,
        key=key,
    )
    row = {name: value for name, value in msgspec.structs.asdict(made).items() if name != "key"}
    if not insert_ignore(tx, API_KEY, [{**row, "updated": tx.now, "digest": digest_of(key)}], index=["name"]):
        raise ObjectAlreadyExists(f"There is an API key {body.name!r} already. Take another name, or revoke it first.")
    _tell(tx, "created", made.id, body.name)
    return made


@implements(READ_API_KEYS, access="keys:read")
def read_api_keys(tx: Tx) -> list[ApiKey]:
    """All API keys, without the keys themselves."""
    return listed(tx.execute(select(API_KEY).order_by(API_KEY.c.name)), _read_row, "API key")


@implements(DELETE_API_KEY, access="keys:write")
def delete_api_key(tx: Tx, id: UUID) -> None:
    """Revoke an API key: within seconds no server accepts it."""
    name = tx.execute(delete(API_KEY).where(API_KEY.c.id == id).returning(API_KEY.c.name)).scalar_one_or_none()
    if name is None:
        raise ObjectNotFound("API key", id)
    _tell(tx, "deleted", id, name)


def _tell(tx: Tx, what: str, id: UUID, name: str) -> None:
    tell_of(tx, "api-key", what, id, name, payload={"by": tx.caller.name})


def find_key(tx: Tx, digest: bytes) -> ApiKey | None:
    """The key of this digest, if there is one that has not expired."""
    row = tx.execute(select(API_KEY).where(API_KEY.c.digest == digest)).one_or_none()
    if row is None:
        return None
    found = _read_row(row)
    return found if found.expires is None or found.expires > tx.now else None


def use_is_news(now: datetime, key: ApiKey) -> bool:
    """Whether it is time to write down that a key is in use."""
    return key.last_used is None or now - key.last_used > NOTE_USE_AFTER


def note_use(tx: Tx, id: UUID) -> None:
    """Write down that a key was used."""
    tx.execute(update(API_KEY).where(API_KEY.c.id == id).values(last_used=tx.now))
