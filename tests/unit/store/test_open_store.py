"""Which databases a URL may name."""

from pathlib import Path

import pytest

from headrace.server.store import open_store


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
