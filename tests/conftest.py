"""Fixtures for every suite: stores on both databases, and a clock that stands still until it is moved."""

import logging
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace._internal.clock import ManualClock
from headrace.logging import configuration
from headrace.server.store import open_store
from headrace.server.store.transaction import Store
from tests.support import postgresql

LOGGERS = [*configuration.ROOTS, *(f"{root}.{runs}" for root in configuration.ROOTS for runs in configuration.RUNS)]

_MEMORY = Path("/dev/shm")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script: what is tested inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test sets up of logging (handlers, levels, propagation) is gone in the next one of its process."""
    monkeypatch.setattr(configuration, "_done", configuration._done)
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(one, list(one.handlers), one.level, one.propagate) for one in loggers]
    yield
    for one, handlers, level, propagate in before:
        one.handlers[:], one.propagate = handlers, propagate
        one.setLevel(level)


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the test's stores: 2026-01-01 00:00 UTC until it is moved."""
    return ManualClock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of this test process on PostgreSQL, with headrace's schema once a store was opened on it."""
    with postgresql.new_database() as url:
        yield url


@pytest.fixture(scope="session")
def fresh_file() -> Iterator[Path]:
    """A SQLite file with headrace's schema and nothing in it, to be copied: to make one takes longer than most tests.

    It lies in a folder in memory where there is one, for nothing here has to survive a loss of power.
    """
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        made = Path(folder) / "fresh.db"
        open_store(f"sqlite:///{made}").close()
        yield made


@pytest.fixture
def sqlite_url(fresh_file: Path) -> Iterator[str]:
    """A SQLite database of the test's own, with headrace's schema."""
    with tempfile.TemporaryDirectory(dir=fresh_file.parent) as folder:
        yield f"sqlite:///{shutil.copy(fresh_file, Path(folder) / 'headrace.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, clock: ManualClock) -> Iterator[Store]:
    """An empty store; the test runs once on each database."""
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    opened = open_store(url, clock)
    yield opened
    opened.close()
    if request.param == "postgresql":
        postgresql.empty(url)


@pytest.fixture
def sqlite_store(sqlite_url: str, clock: ManualClock) -> Iterator[Store]:
    """An empty store on a SQLite file."""
    opened = open_store(sqlite_url, clock)
    yield opened
    opened.close()
