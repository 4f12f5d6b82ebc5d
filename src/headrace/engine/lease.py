"""Holding the lease of a run that this process carries out.  # G4, G6

The engine calls `hold` once its claim of a run is accepted and `release` once the run has ended (after its final state
is proposed). In between the lease is renewed by a small child process (`renewer.py`), which a busy interpreter lock
cannot keep from its work. It is started with the first run, in 0.2 ms, serves all runs of this process, and ends when
this process does, however that comes about.

When a run is lost (another attempt has replaced this one, or the reaper has given it up) or is to be cancelled, the
child sends this process SIGTERM; `fate` then says which run is meant and why. A run that is no longer ours is lost
whatever this process does: the server refuses what it writes.

The child is not possible everywhere: not on Windows, not in an interpreter that is embedded in another program, not
for a PostgreSQL database that is used without a server. There a thread renews, which is as good as long as no C code
holds the interpreter lock for longer than a lease.
"""

import logging
import os
import signal
import sys
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import unquote
from uuid import UUID

from headrace.client import get_client
from headrace.exceptions import ApiError
from headrace.schemas.leases import RENEW_RUN_LEASES, RenewRunLeases, RunLease
from headrace.settings import database_url, get_settings

Fate = Literal["held", "lost", "cancelling"]

logger = logging.getLogger("headrace.lease")
_PROGRAM = Path(__file__).with_name("renewer.py")
_PASSED_ON = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Caller(Protocol):
    """The part of a client that is needed here."""

    @property
    def local(self) -> bool:
        """Whether calls run in this process, on the database itself."""
        ...

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Any:
        """Make one call."""
        ...


class Keeper(Protocol):
    """What renews leases."""

    held: dict[UUID, RunLease]

    def hold(self, lease: RunLease, seconds: float) -> None:
        """Renew `lease` every third of `seconds` from now on."""
        ...

    def release(self, run_id: UUID) -> None:
        """Renew that lease no longer."""
        ...

    def fate(self, run_id: UUID) -> Fate:
        """What the API said when the lease was renewed last."""
        ...

    def close(self) -> None:
        """Renew nothing any more."""
        ...


class ProcessKeeper:
    """The child process, and what this process knows of it.

    Args:
        setup: the commands that tell it where the API is.
    """

    def __init__(self, setup: tuple[str, ...]) -> None:
        self.held: dict[UUID, RunLease] = {}
        self._seconds: dict[UUID, float] = {}
        self._fates: dict[UUID, Fate] = {}
        self._setup = setup
        self._start()

    def _start(self) -> None:
        input_end, self._to = os.pipe()
        self._from, output_end = os.pipe()
        os.set_blocking(self._from, False)
        self._heard = b""
        try:
            self._process = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                {name: os.environ[name] for name in _PASSED_ON if name in os.environ},  # S9
                file_actions=[(os.POSIX_SPAWN_DUP2, input_end, 0), (os.POSIX_SPAWN_DUP2, output_end, 1)],
                setsigmask=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP],  # meant for us, not for it
            )
        finally:
            os.close(input_end)
            os.close(output_end)
        self._tell(*self._setup)

    def hold(self, lease: RunLease, seconds: float) -> None:
        """Renew `lease` every third of `seconds` from now on."""
        self.held[lease.id], self._seconds[lease.id] = lease, seconds
        self._fates.pop(lease.id, None)
        self._tell_or_restart(_hold_command(lease, seconds))

    def release(self, run_id: UUID) -> None:
        """Renew that lease no longer."""
        self.held.pop(run_id, None)
        self._tell_or_restart(f"release {run_id}")

    def fate(self, run_id: UUID) -> Fate:
        """What the API said when the lease was renewed last."""
        try:
            while data := os.read(self._from, 4096):
                self._heard += data
        except BlockingIOError:
            pass
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            word, _, run = line.decode().partition(" ")
            self._fates[UUID(run)] = "lost" if word == "lost" else "cancelling"
        return self._fates.get(run_id, "held")

    def close(self) -> None:
        """Renew nothing any more: the child ends at the end of its input."""
        self.abandon()
        os.waitpid(self._process, 0)

    def abandon(self) -> None:
        """Close the pipes, in a forked child too, whose parent goes on with them."""
        os.close(self._to)
        os.close(self._from)

    def _tell(self, *commands: str) -> None:
        os.write(self._to, "".join(f"{command}\n" for command in commands).encode())

    def _tell_or_restart(self, command: str) -> None:
        try:
            self._tell(command)
        except BrokenPipeError:
            logger.warning("The process that renews the leases of runs has died; another one is started.")
            self.close()
            self._start()
            self._tell(*(_hold_command(lease, self._seconds[run]) for run, lease in self.held.items()))


class ThreadKeeper:
    """A thread that renews, where a process cannot.

    Args:
        client: whom to call.
        interrupt: ends what this process is doing.
    """

    def __init__(self, client: Caller, interrupt: Callable[[], None]) -> None:
        self.held: dict[UUID, RunLease] = {}
        self._seconds: dict[UUID, float] = {}
        self._fates: dict[UUID, Fate] = {}
        self._doubted: set[UUID] = set()
        self._client, self._interrupt = client, interrupt
        self._changed, self._closed = threading.Event(), False
        threading.Thread(target=self._run, name="headrace-leases", daemon=True).start()

    def hold(self, lease: RunLease, seconds: float) -> None:
        """Renew `lease` every third of `seconds` from now on."""
        self.held[lease.id], self._seconds[lease.id] = lease, seconds
        self._fates.pop(lease.id, None)
        self._changed.set()

    def release(self, run_id: UUID) -> None:
        """Renew that lease no longer."""
        self.held.pop(run_id, None)

    def fate(self, run_id: UUID) -> Fate:
        """What the API said when the lease was renewed last."""
        return self._fates.get(run_id, "held")

    def close(self) -> None:
        """Renew nothing any more."""
        self.held.clear()
        self._closed = True
        self._changed.set()

    abandon = close

    def _run(self) -> None:
        while not self._closed:
            seconds = [self._seconds[run] for run in list(self.held)]
            if self._changed.wait(min(seconds) / 3 if seconds else None):
                self._changed.clear()
                continue
            self._renew([lease for run, lease in list(self.held.items()) if self.fate(run) != "lost"])

    def _renew(self, leases: list[RunLease]) -> None:
        if not leases:
            return
        try:
            renewed = self._client.call(RENEW_RUN_LEASES, body=RenewRunLeases(leases=leases))
        except (ApiError, OSError) as error:  # the API may be away for a while; that crashes nothing
            logger.info("The leases of runs could not be renewed: %s", error)
            return
        # a run that is lost may just have ended, and be released next: so it must be lost twice
        certain, self._doubted = self._doubted.intersection(renewed.lost), set(renewed.lost)
        for run in self.held.keys() & certain:
            self._fates[run] = "lost"
            self._interrupt()
        for run in self.held.keys() & set(renewed.cancelling):
            if self._fates.get(run) is None:
                self._fates[run] = "cancelling"
                self._interrupt()


def _hold_command(lease: RunLease, seconds: float) -> str:
    return f"hold {lease.id} {lease.epoch} {seconds}"


def _setup_of(client: Caller) -> tuple[str, ...] | None:
    """The commands that tell the child where the API of `client` is; None when no child can reach it."""
    if sys.platform == "win32" or not sys.executable:
        return None
    settings = get_settings()
    if client.local:
        kind, _, place = database_url(settings).partition("://")
        file = Path(unquote(place.removeprefix("/").partition("?")[0])).expanduser().absolute()
        return (f"database {file}",) if kind == "sqlite" else None
    api = settings.api
    setup = [f"server {getattr(client, 'url', api.url)}"]
    setup.extend(f"header {name} {value}" for name, value in settings.client.custom_headers.items())
    if api.auth_string:
        login = b64encode(api.auth_string.get_secret_value().encode()).decode()
        setup.append(f"header Authorization Basic {login}")
    elif api.key:
        setup.append(f"header Authorization Bearer {api.key.get_secret_value()}")
    if api.ssl_cert_file:
        setup.append(f"trust {api.ssl_cert_file}")
    if api.tls_insecure_skip_verify:
        setup.append("insecure")
    return tuple(setup)


def _interrupt_main() -> None:
    signal.raise_signal(signal.SIGTERM)


_lock = threading.Lock()
_keepers: dict[tuple[str, ...] | int, ProcessKeeper | ThreadKeeper] = {}
_keeper_of: dict[UUID, ProcessKeeper | ThreadKeeper] = {}


def hold(run_id: UUID, epoch: int, lease_seconds: float, client: Caller | None = None) -> None:
    """Keep the lease of a run from ending, until `release`. Holding a run again replaces its epoch.

    Args:
        run_id: the flow run.
        epoch: the number of the attempt, as the claim was answered.
        lease_seconds: length of the lease in seconds.
        client: the client the run was claimed with; the active client when absent.
    """
    client = client or get_client()
    setup = _setup_of(client)
    with _lock:
        key = setup or id(client)
        keeper = _keepers.get(key)
        if keeper is None:
            _close_idle()
            keeper = _keepers[key] = ProcessKeeper(setup) if setup else ThreadKeeper(client, _interrupt_main)
        _keeper_of[run_id] = keeper
        keeper.hold(RunLease(id=run_id, epoch=epoch), lease_seconds)


def release(run_id: UUID) -> None:
    """Renew the lease of a run no longer: it has ended, or this process gives it up.

    A run that is not held is ignored.
    """
    with _lock:
        keeper = _keeper_of.pop(run_id, None)
        if keeper is not None:
            keeper.release(run_id)


def fate(run_id: UUID) -> Fate:
    """What is known of a run's lease: `held`; `lost`, so that the run must stop and write nothing; or `cancelling`.

    Ask when SIGTERM comes: it may be a sign of either, or have another reason (then the run is `held`).
    """
    with _lock:
        keeper = _keeper_of.get(run_id)
        return keeper.fate(run_id) if keeper is not None else "held"


def close() -> None:
    """Release every run, and end the child process."""
    with _lock:
        for keeper in _keepers.values():
            keeper.close()
        _keepers.clear()
        _keeper_of.clear()


def _close_idle() -> None:
    for key, keeper in list(_keepers.items()):
        if not keeper.held:
            keeper.close()
            del _keepers[key]


def _after_fork() -> None:
    """The runs of the parent are the parent's."""
    global _lock
    _lock = threading.Lock()
    for keeper in _keepers.values():
        keeper.abandon()
    _keepers.clear()
    _keeper_of.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
