"""Who calls: the one place that knows logins, for calls and for websockets.  # S1, S5, S17

Two logins are known: the auth string of the settings, which is the administrator's, and API keys of the database. A
key may be given in the place of an auth string too: websockets of Prefect's clients know no other login. A server
without an auth string is open: all are administrators.

A key that was found is taken for good for `TRUST_SECONDS`, so that a call costs no look-up and a revoked key is
accepted no longer than that, by whatever process. Wrong logins are counted by address. When an address has had too
many, nothing it gives is even looked at, right or wrong, but what was right from there before: so nobody learns more
by guessing on, and those who share the address with the guesser work on.
"""

import asyncio
import base64
import hmac
from collections import OrderedDict
from time import monotonic
from typing import TypeVar

from headrace.exceptions import RateLimited, Unauthorized
from headrace.server.http.rate_limits import RateLimit
from headrace.server.operations.api_keys import PREFIX, digest_of, find_key, note_use, use_is_news
from headrace.server.store.caller import ADMIN, Caller
from headrace.server.store.transaction import Store
from headrace.settings import Settings

TRUST_SECONDS = 4.0
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
            return ADMIN
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
            return ADMIN
        given = (token or "").encode(errors="replace")
        try:
            return await self._checked(given, hmac.compare_digest(given, self._login), given, address)
        except (Unauthorized, RateLimited):
            return None

    async def until_revoked(self, token: str | None, address: str) -> None:
        """Return when a token that was known is known no longer; never for the auth string."""
        while await self.knows(token, address) is not None:
            await asyncio.sleep(TRUST_SECONDS / 2)

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
        found = await self._store.read_soon(lambda tx: (tx.now, find_key(tx, digest)))
        now, known = found
        if known is None:
            return None
        trust = TRUST_SECONDS if known.expires is None else min(TRUST_SECONDS, (known.expires - now).total_seconds())
        caller = Caller(f"API key {known.name!r}", frozenset(known.permissions), known.work_pool)
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
