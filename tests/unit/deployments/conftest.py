"""Local mode in a home of its own, with a folder of flows and a work pool."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.client import get_client
from headrace.client.connect import close_clients
from headrace.schemas.work_pools import CREATE_WORK_POOL, WorkPoolCreate
from headrace.settings import temporary_settings

FLOWS = """
from headrace import flow

@flow(description="Adds up.", version="3")
def add_up(a: int, b: list[float] | None = None, *, c: str = "x") -> int:
    return a
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with `flows.py`; the work pool `main` exists."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(folder)
    with temporary_settings({"home": str(tmp_path / "home"), "api.url": None}):
        get_client().call(CREATE_WORK_POOL, body=WorkPoolCreate(name="main", type="process"))
        yield folder
        close_clients()
