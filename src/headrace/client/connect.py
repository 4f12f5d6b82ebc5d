"""Which API a process talks to, and one client for it that all its parts share.

In order: the URL of the settings; a server of this home that is running, found by its note; else local mode, on the
database of this home. The note is looked at anew for each `get_client`, so that a server started later is found.

A client, and the database behind it, is opened once in a process and closed at its end. A forked child forgets what
it inherited, for sockets and threads do not survive a fork.
"""

import atexit
import os
import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from msgspec.structs import astuple

from headrace._internal.collector import collector_paused
from headrace._internal.server_note import note_path, read_note
from headrace.client.client import Client
from headrace.settings import Settings, database_url, get_settings

if TYPE_CHECKING:
    from headrace.client.asynchronous import AsyncClient

PROBE_SECONDS = 1.0

_clients: dict[tuple[Any, ...], Client] = {}
_inherited: list[Client] = []
_seen: dict[str, tuple[int, str | None]] = {}
"""For each home: when its note was written, and the URL in it if a server answered there."""
_lock = threading.RLock()


def get_client() -> Client:
    """The client for the API the settings name; see the head of this module for which that is.

    Raises:
        StoreUnavailable: in local mode, when the database cannot be opened.
    """
    settings = get_settings()
    url = settings.api.url or _running_server(settings.home)
    key = _key(url, settings)
    client = _clients.get(key)
    if client is None:
        with _lock:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = _open(url, settings)
    return client


def get_async_client() -> "AsyncClient":
    """The same for coroutines."""
    from headrace.client.asynchronous import AsyncClient  # asyncio: 30 ms, which a synchronous flow need not pay

    return AsyncClient(get_client())


def _key(url: str | None, settings: Settings) -> tuple[Any, ...]:
    """What two clients must have in common to be the same one."""
    if url is None:
        return (database_url(settings),)
    return (url, *astuple(settings.api), *(str(one) for one in astuple(settings.client)))


def current_url() -> str | None:
    """The URL of the API that `get_client` talks to; None in local mode."""
    settings = get_settings()
    return settings.api.url or _running_server(settings.home)


def describe_connection() -> str:
    """Say in words which API `get_client` talks to, and why; without passwords."""
    settings = get_settings()
    if settings.api.url:
        return f"{settings.api.url} (by HEADRACE_API_URL)"
    if url := _running_server(settings.home):
        return f"{url} (the server of {settings.home})"
    scheme, _, rest = database_url(settings).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]} (local mode: no server is running)"


def close_clients() -> None:
    """Close every client of this process, and the databases behind them; the next `get_client` opens a new one."""
    with _lock:
        clients = list(_clients.values())
        _clients.clear()
        _seen.clear()
    for one in clients:
        one.close()


def _open(url: str | None, settings: Settings) -> Client:
    if url:
        from headrace.client.http import HttpClient  # 0.1 s, which local mode need not pay

        return HttpClient(url, settings)
    with collector_paused():
        from headrace.client.local import open_local  # SQLAlchemy: 0.4 s, which a client of a server need not pay

        return open_local(database_url(settings))


def _running_server(home: str) -> str | None:
    """The URL of the server of this home; None when none runs."""
    try:
        written = os.stat(note_path(home)).st_mtime_ns
    except OSError:
        return None
    note = read_note(home)
    if note is None or not note.alive:
        return None
    known = _seen.get(home)
    if known is None or known[0] != written or known[1] != note.url:
        known = (written, note.url if _accepts(note.url) else None)
        if known[1] is not None:  # one that refuses may be starting, or leaving: ask it again next time
            _seen[home] = known
    return known[1]


def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=PROBE_SECONDS):
            return True
    except OSError:
        return False


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    _inherited.extend(_clients.values())  # kept, not closed: closing would act on the parent's
    _clients.clear()
    _seen.clear()


atexit.register(close_clients)
os.register_at_fork(after_in_child=_forget_after_fork)
