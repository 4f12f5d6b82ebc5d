"""The server as a process: binds its address, opens the store, runs the services, serves until it is told to stop.

The address is bound first, so that a second server on it fails before it touches anything, and so that the note in
the home folder names the port that was really given. The note is written when calls are answered, and taken away at
the end. Several processes may share the work, see `family`.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from msgspec.structs import replace

from headrace._internal.file_locks import try_lock
from headrace._internal.server_note import ServerNote, read_note, remove_note, write_note
from headrace.exceptions import HeadraceError
from headrace.server.events import hints
from headrace.server.events.exchange import Exchange
from headrace.server.http.api import ROOT, Problems
from headrace.server.http.app import create_app
from headrace.server.http.family import Place, look_after
from headrace.server.http.guard import check_exposure
from headrace.server.http.long_poll import STOP
from headrace.server.http.socket_protocol import SocketProtocol
from headrace.server.http.sockets import FIRST_FRAME
from headrace.server.operations.block_types import install_system_block_types
from headrace.server.operations.slots import FREED
from headrace.server.services.runner import ServiceRunner, discover
from headrace.server.store import open_store
from headrace.server.store.transaction import Store
from headrace.settings import Settings, database_url
from headrace.settings.secret import mask

logger = logging.getLogger("headrace.server")

BACKLOG = 2048
GRACE_SECONDS = 10
"""How long calls that are under way may take when the server is told to stop."""
LOCK = "server.lock"
KEEP_ALIVE_SECONDS = 75
"""An idle connection stays open at least so long: clients that find theirs closed must send their call again."""

COLLECT_AFTER = (20_000, 20, 20)
"""Python's own is 700 objects, of which one batch of records makes a hundred times as many."""

Ready = Callable[[str], None]


class AddressTaken(HeadraceError):
    """Something listens at this address already."""


class ServerRunsAlready(HeadraceError):
    """A server of this home runs already."""


def bind(host: str, port: int) -> socket.socket:
    """Take the address; port 0 takes a free one.

    Raises:
        AddressTaken: it is in use, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise AddressTaken(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses it, or choose another with --port."
        ) from None
    taken.listen(BACKLOG)
    taken.setblocking(False)
    return taken


def url_of(host: str, port: int) -> str:
    """The URL of the API of a server bound to `host` and `port`, as this machine can call it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # an address that means all of them cannot be called
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{ROOT}"


def serve(settings: Settings, *, services: bool = True, ready: Ready | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: `server.api.host`, `server.api.port`, `server.api.workers`, `home`, `server.database` and the rest.
        services: whether this server runs the background services.
        ready: called with the API's URL once calls are answered.

    Raises:
        UnsafeToServe: it would be open to the network without a login.
        ServerRunsAlready: another server of this home runs.
        AddressTaken: the address is in use.
        StoreUnavailable: the database cannot be opened.
        CannotShare: several processes are wanted, which this system cannot have.
    """
    check_exposure(settings)
    api = settings.server.api
    with the_only_server(settings.home), contextlib.closing(bind(api.host, api.port)) as bound:
        port = bound.getsockname()[1]
        settings = replace(settings, server=replace(settings.server, api=replace(api, port=port)))
        announce = _announce(settings, url_of(api.host, port), ready)
        with contextlib.closing(open_store(database_url(settings))) as store:
            if settings.server.register_blocks_on_start:
                store.write(install_system_block_types)
            if api.workers == 1:
                runner = ServiceRunner(discover() if services else (), store, settings)
                with runner.running(), _noted(settings):
                    _answer(bound, store, settings, runner.problems, announce)
                return
        gc.freeze()  # so that the processes go on sharing what is there now
        with _noted(settings):
            look_after(api.workers, lambda place: _share(place, bound, settings, services), announce)


def _share(place: Place, bound: socket.socket, settings: Settings, services: bool) -> None:
    """Be one of several processes that answer calls; the first runs the services."""
    first = services and place.number == 0
    with contextlib.closing(open_store(database_url(settings))) as store:
        told = place.board.write if first else None
        with ServiceRunner(discover() if first else (), store, settings, told).running():
            problems = place.board.read if services else list
            _answer(bound, store, settings, problems, place.ready, place.exchange)


def _answer(
    bound: socket.socket,
    store: Store,
    settings: Settings,
    problems: Problems,
    ready: Callable[[], None],
    exchange: Exchange | None = None,
) -> None:
    """Answer calls until SIGINT or SIGTERM."""
    server = _Server(configuration(create_app(store, settings, problems=problems), settings))
    server.when_ready, server.exchange = ready, exchange
    gc.freeze()  # what is there now stays, so the collector need not look at it again and again
    gc.set_threshold(*COLLECT_AFTER)
    server.run(sockets=[bound])


@contextlib.contextmanager
def _noted(settings: Settings) -> Iterator[None]:
    """Take the note of this process away at the end."""
    try:
        yield
    finally:
        remove_note(settings.home, os.getpid())


@contextlib.contextmanager
def the_only_server(home: str) -> Iterator[None]:
    """Keep other servers off this home while the block runs: they would fight over its note.

    The operating system lets go of the lock when this process dies, however it dies.

    Raises:
        ServerRunsAlready: one runs.
    """
    Path(home).mkdir(parents=True, exist_ok=True)
    with (Path(home) / LOCK).open("ab") as file:
        if not try_lock(file.fileno()):
            note = read_note(home)
            which = f", at {note.url} (process {note.pid})" if note is not None else " (it is just starting or ending)"
            raise ServerRunsAlready(
                f"A server of {home} runs already{which}. Use it, stop it with `headrace server stop`, "
                "or give this one another HEADRACE_HOME."
            )
        yield


def _announce(settings: Settings, url: str, ready: Ready | None) -> Callable[[], None]:
    def announce() -> None:
        write_note(settings.home, ServerNote(url, os.getpid(), time.time()))
        if ready is not None:
            ready(url)

    return announce


def configuration(app: object, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to serve `app`."""
    api = settings.server.api
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        loop="uvloop" if _has("uvloop") else "asyncio",
        http=_protocol(),
        ws=SocketProtocol,
        ws_max_size=FIRST_FRAME,
        ws_per_message_deflate=False,  # a small frame could become a large one  # S4
        ws_ping_interval=api.websocket_ping_interval,
        ws_ping_timeout=api.websocket_ping_timeout,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(api.keepalive_timeout, KEEP_ALIVE_SECONDS),
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
    )


def _protocol() -> Any:
    """How HTTP is spoken: on httptools, or, where that is missing, on h11, which has bounds of its own."""
    if not _has("httptools"):
        return "h11"
    from headrace.server.http.protocol import BoundedProtocol

    return BoundedProtocol


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


class _Server(uvicorn.Server):
    when_ready: Callable[[], None]
    exchange: Exchange | None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.exchange is not None:
            self.exchange.listen(asyncio.get_running_loop())
        if self.started:
            self.when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hints.publish_here(FREED, STOP)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End on SIGINT and SIGTERM. Uvicorn's own would kill the process before our note is taken away."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def logging_to_stderr(level: str) -> Iterator[None]:
    """Write the server's messages to standard error, as lines of JSON.  # S16"""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.addHandler(handler)
    for name in ("headrace", "uvicorn"):
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)


_ESCAPED = {number: f"\\u{number:04x}" for number in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
"""What ends a line, or talks to a terminal, and JSON leaves as it is."""


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from msgspec import json

        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = mask(self.formatException(record.exc_info))
        return json.encode(line).decode().translate(_ESCAPED)
