"""`headrace api-key`, in local mode."""

import json
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.app import run
from headrace.client.connect import close_clients
from headrace.settings import forget_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home of its own."""
    for name in ("HEADRACE_API_URL", "PREFECT_API_URL", "HEADRACE_PROFILE", "PREFECT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    forget_settings()
    yield
    close_clients()
    monkeypatch.undo()
    forget_settings()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run a command; returns its exit code and all it printed."""
    capsys.readouterr()
    code = run(["api-key", *words])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_key_is_made_shown_once_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    """`create` prints the key, `ls` all about it but the key, and after `revoke` it is gone."""
    words = ("create", "worker", "-a", "read", "-a", "runs:write", "--work-pool", "p", "--expires-in", "90d")
    code, created = call(capsys, *words)
    key = next(line for line in created.splitlines() if line.startswith("hr_"))

    listed = call(capsys, "ls")[1]
    assert (code, key in listed) == (0, False)
    for word in ("worker", "read, runs:write", "p", "in 90d"):
        assert word in listed

    assert call(capsys, "revoke", "worker")[0] == 0
    assert "none" in call(capsys, "ls")[1]
    assert call(capsys, "revoke", "worker")[0] == 1


def test_what_a_key_may_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    """There is no default: a key that may all is asked for in words."""
    assert call(capsys, "create", "k")[0] == 2
    assert call(capsys, "create", "k", "--allow", "everything")[0] == 1
    assert call(capsys, "create", "k", "--allow", "read", "--expires-in", "soon")[0] == 1


def test_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole answer, the key in it."""
    code, out = call(capsys, "create", "k", "--allow", "admin", "--output", "json")

    assert (code, json.loads(out)["permissions"]) == (0, ["admin"])
    assert json.loads(out)["key"].startswith("hr_")
