"""`headrace audit`, in local mode."""

import json
from pathlib import Path

import pytest

from headrace.cli.app import run
from headrace.client.local import LocalClient
from headrace.schemas.api_keys import CREATE_API_KEY, ApiKeyCreate
from headrace.server.store import open_store
from headrace.settings import temporary_settings


def test_the_audit_log_is_shown(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, JSON for programs, and only what is asked for."""
    api = LocalClient(open_store(sqlite_url), owned=True)
    made = api.call(CREATE_API_KEY, body=ApiKeyCreate(name="ci", permissions=["read"]))
    api.close()

    def said(*options: str) -> str:
        assert run(["audit", *options]) == 0
        return capsys.readouterr().out

    with temporary_settings({"home": str(tmp_path), "server.database.connection_url": sqlite_url, "api.url": None}):
        table = said()
        [row] = json.loads(said("-o", "json", "--operation", "create_api_key"))
        others = [said("--denied"), said("--operation", "delete_api_key"), said("--since", "1h")]

    for word in ("The administrator", "here", "create_api_key", f"ci ({made.id})", "allowed"):
        assert word in table
    assert (row["name"], row["address"], row["times"]) == ("ci", None, 1)
    assert others[:2] == ["Audit log: none\n"] * 2
    assert "create_api_key" in others[2]
