"""`headrace server rotate-key`."""

from pathlib import Path

import pytest
from sqlalchemy import update

from headrace.cli.app import run
from headrace.client.local import LocalClient
from headrace.server.operations.block_vault import FILE
from headrace.server.store import open_store
from headrace.server.store.tables import BLOCK_DOCUMENT
from headrace.settings import temporary_settings
from tests.operations.blocks_world import make_block, make_schema, values


def test_a_key_is_rotated(tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """All blocks are encrypted anew while a server has the database open; one that cannot be read is named."""
    with temporary_settings({"home": str(tmp_path), "server.database.connection_url": sqlite_url}):
        api = LocalClient(open_store(sqlite_url), owned=True)
        schema = make_schema(api)
        blocks = [make_block(api, schema, name, password="canary") for name in ("one", "two")]
        first = (tmp_path / FILE).read_text().split()

        whole = run(["server", "rotate-key"])
        said = capsys.readouterr().out
        read = [values(api, one.id) for one in blocks]
        of_first = BLOCK_DOCUMENT.c.id == blocks[0].id
        api.store.write(lambda tx: tx.execute(update(BLOCK_DOCUMENT).where(of_first).values(data="no token")))
        in_part = run(["server", "rotate-key"])
        complaint = capsys.readouterr().err
        api.close()

    assert (whole, in_part) == (0, 1)
    assert "2 blocks" in said
    assert str(blocks[0].id) in complaint
    assert read == [{"password": "canary"}] * 2
    assert first[0] not in (tmp_path / FILE).read_text().split()[:1]
    assert "canary" not in said + complaint
