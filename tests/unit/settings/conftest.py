"""A home folder and a working folder of their own for each test, and no settings in the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.settings import forget_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home; the working folder is another empty one."""
    for name in list(os.environ):
        if name.startswith(("HEADRACE_", "PREFECT_", "SSL_CERT")):
            monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HEADRACE_HOME", str(home))
    monkeypatch.chdir(work)
    forget_settings()
    yield home
    forget_settings()
