"""Which databases a URL may name, and opening them."""

import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from headrace.server.store import open_store, sqlite_file
from headrace.server.store.tables import FLOW


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
def test_a_file_is_opened_whatever_driver_is_named(tmp_path: Path, scheme: str) -> None:
    """Settings written for Prefect name a driver; the file is what counts, and its folder is made."""
    store = open_store(f"{scheme}:///{tmp_path}/deep/er/headrace.db")
    store.close()

    assert (tmp_path / "deep" / "er" / "headrace.db").exists()


@pytest.mark.parametrize(
    "url",
    ["mysql://me:secret@host/db", "sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///file::memory:?uri=true"],
)
def test_other_databases_are_refused_in_words(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What headrace cannot open is named, without its password, together with what it can; nothing is made."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ValueError, match=r"Use sqlite:///path/of/file or postgresql://") as refusal:
        open_store(url)

    assert "secret" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("times", [1, 20])
def test_g16_a_file_that_is_locked_at_the_first_look_is_opened_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A process that makes the file keeps others off it for a moment; they wait, whatever SQLite itself does."""
    locked = iter(range(times))

    class Locked(sqlite3.Connection):
        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if next(locked, None) is not None:
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(*arguments)

    monkeypatch.setattr(sqlite_file.sqlite3, "connect", partial(sqlite3.connect, factory=Locked))
    store = open_store(f"sqlite:///{tmp_path}/headrace.db")

    assert store.read(lambda tx: tx.execute(select(FLOW.c.id)).all()) == []
    assert next(locked, None) is None
    store.close()
