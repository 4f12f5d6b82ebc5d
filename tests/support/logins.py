"""A server that asks for logins, and the logins there are: the auth string, and API keys of each kind."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from msgspec.structs import replace
from sqlalchemy import update

from headrace.schemas.api_keys import ApiKeyCreate, NewApiKey
from headrace.server.operations.api_keys import create_api_key
from headrace.server.store.tables import API_KEY
from headrace.server.store.transaction import Store, Tx
from headrace.settings import Secret, Settings, get_settings
from tests.support.serving import serving

AUTH_STRING = "user:p:ß"
MANY = 1_000_000


def settings_with(limits: dict[str, Any] | None = None, **api: Any) -> Settings:
    """The settings with others below `server.api` and `server.limits`."""
    settings = get_settings()
    server = settings.server
    server = replace(server, api=replace(server.api, **api), limits=replace(server.limits, **(limits or {})))
    return replace(settings, server=server)


def basic(login: str = AUTH_STRING) -> str:
    """The Authorization header of an auth string."""
    return "Basic " + base64.b64encode(login.encode()).decode()


def bearer(key: NewApiKey) -> str:
    """The Authorization header of an API key."""
    return f"Bearer {key.key}"


def make_key(store: Store, name: str, *permissions: str, **more: Any) -> NewApiKey:
    """A key with these permissions."""
    return store.write(lambda tx: create_api_key(tx, ApiKeyCreate(name=name, permissions=list(permissions), **more)))


def expire(store: Store, key: NewApiKey) -> None:
    """Let a key have expired an hour ago."""

    def step(tx: Tx) -> None:
        earlier = tx.now - timedelta(hours=1)
        tx.execute(update(API_KEY).where(API_KEY.c.id == key.id).values(expires=earlier))

    store.write(step)


@contextmanager
def serving_with_login(store: Store, limits: dict[str, Any] | None = None, **options: Any) -> Iterator[str]:
    """Serve `store` with `AUTH_STRING`, however many wrong logins and bulk calls come unless `limits` says."""
    plenty = {"wrong_logins_per_minute": MANY, "bulk_calls_per_minute": MANY}
    with serving(store, settings_with(plenty | (limits or {}), auth_string=Secret(AUTH_STRING)), **options) as url:
        yield url
