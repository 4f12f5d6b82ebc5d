"""Who calls: the one place that knows logins, for calls and for websockets.  # S1, S5, S17

Three logins are known: the auth string of the settings, which is the administrator's, API keys of the database, and
keys of runs that are held. A key may be given in the place of an auth string too: websockets of Prefect's clients know
no other login. A server without an auth string is open: all are administrators.

A key that was found is taken for good for `TRUST_SECONDS`, so that a call costs no look-up and a revoked key is
accepted no longer than that, by whatever process. Wrong logins are counted by address. When an address has had too
many, nothing it gives is even looked at, right or wrong, but what was right from there before: so nobody learns more
by guessing on, and those who share the address with the guesser work on.
"""

import asyncio
import base64
import hmac
from collections import OrderedDict
from contextlib import suppress
from time import monotonic
from typing import TypeVar

from headrace.exceptions import RateLimited, Unauthorized
from headrace.server.http.rate_limits import RateLimit
from headrace.server.operations.api_keys import PREFIX, digest_of, find_key, note_use, use_is_news
from headrace.server.operations.run_keys import RUN_PREFIX, find_run_caller
from headrace.server.store.caller import ADMIN, ANYONE, Caller
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.transaction import Store
from headrace.settings import Settings

TRUST_SECONDS = 4.0
LOOK_AGAIN = 0.5
"""Seconds between two looks at a key that is not trusted at the moment."""
REMEMBERED = 10_000
"""Keys, and logins that were right, which one process remembers."""

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Authenticator:
    """Knows logins.

    Args:
        store: the database, for API keys.
        settings: `server.api.auth_string` and the limits.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        secret = settings.server.api.auth_string
        self._login = secret.get_secret_value().encode() if secret else None
        self._basic = b"Basic " + base64.b64encode(self._login) if self._login is not None else None
        self._store = store
        self._keys: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._right: OrderedDict[tuple[str, bytes], bool] = OrderedDict()
        self._wrong = RateLimit(settings.server.limits.wrong_logins_per_minute)

    @property
    def is_open(self) -> bool:
        """Whether no login is asked for."""
        return self._login is None

    async def caller_of(self, header: bytes, address: str) -> Caller:
        """Who gives this `Authorization` header.

        Raises:
            Unauthorized: nobody known.
            RateLimited: there were too many wrong ones from this address.
        """
        if self._basic is None:
            return ANYONE
        scheme, _, rest = header.partition(b" ")
        scheme, rest = scheme.title(), rest.strip()
        is_admin = hmac.compare_digest(scheme + b" " + rest, self._basic)
        return await self._checked(rest if scheme == b"Bearer" else _plain(rest), is_admin, header, address)

    async def knows(self, token: str | None, address: str) -> Caller | None:
        """Who gives this token in the first frame of a websocket: the auth string or an API key, as it is.

        Args:
            token: what the frame says.
            address: where it comes from.

        Returns:
            None when it is nobody known, or when there were too many wrong ones from this address.
        """
        if self._login is None:
            return ANYONE
        given = (token or "").encode(errors="replace")
        try:
            return await self._checked(given, hmac.compare_digest(given, self._login), given, address)
        except (Unauthorized, RateLimited):
            return None

    async def until_revoked(self, token: str | None, address: str) -> None:
        """Return when a token that was known is known no longer; never for the auth string.

        A database that does not answer revokes nothing: there is nothing to be had of it meanwhile, and clients would
        take the end of their socket for a login that is wrong.  # G16
        """
        known = True
        while known:
            await asyncio.sleep(self._trust_left(token))
            with suppress(StoreUnavailable):
                known = await self.knows(token, address) is not None

    def _trust_left(self, token: str | None) -> float:
        """For how many seconds a token is taken for good without a look: other calls may prolong that."""
        _, until = self._keys.get(digest_of(token or ""), (None, 0.0))
        return min(max(until - monotonic(), LOOK_AGAIN), TRUST_SECONDS)

    async def _checked(self, key: bytes, is_admin: bool, given: bytes, address: str) -> Caller:
        wait = self._wrong.wait(address)
        if wait > 0 and (address, given) not in self._right:
            raise RateLimited("There were too many wrong logins from this address. Wait before the next one.", wait)
        caller = ADMIN if is_admin else await self._owner(key)
        if caller is None:
            self._wrong.take(address)
            raise Unauthorized("Nobody known")
        if (address, given) not in self._right:
            _keep(self._right, (address, given), True)
        return caller

    async def _owner(self, key: bytes) -> Caller | None:
        """The caller an API key belongs to."""
        if not key.startswith(PREFIX.encode()):
            return None
        digest = digest_of(key.decode(errors="replace"))
        caller, until = self._keys.get(digest, (None, 0.0))
        if caller is not None and monotonic() < until:
            return caller
        self._keys.pop(digest, None)
        asked = monotonic()
        if key.startswith(RUN_PREFIX.encode()):
            caller = await self._store.read_soon(lambda tx: find_run_caller(tx, digest))
            if caller is not None:
                _keep(self._keys, digest, (caller, asked + TRUST_SECONDS))
            return caller
        found = await self._store.read_soon(lambda tx: (tx.now, find_key(tx, digest)))
        now, known = found
        if known is None:
            return None
        trust = TRUST_SECONDS if known.expires is None else min(TRUST_SECONDS, (known.expires - now).total_seconds())
        caller = Caller(f"API key {known.name!r}", frozenset(known.permissions), known.work_pool, known.id)
        _keep(self._keys, digest, (caller, asked + trust))
        if use_is_news(now, known):
            await self._store.write_soon(lambda tx: note_use(tx, known.id))
        return caller


def _plain(encoded: bytes) -> bytes:
    """What base64 stands for; empty when it is none."""
    try:
        return base64.b64decode(encoded)
    except ValueError:
        return b""


def _keep(table: OrderedDict[KeyT, ValueT], key: KeyT, value: ValueT) -> None:
    """Remember something, and forget what came first when it is too much.  # G14"""
    table[key] = value
    if len(table) > REMEMBERED:
        table.popitem(last=False)
