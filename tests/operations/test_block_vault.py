"""The keys of blocks: made once, kept outside the database, rotated without a moment in which blocks are unreadable."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update

from headrace.client.local import LocalClient
from headrace.exceptions import ConfigurationError
from headrace.server.operations import block_vault
from headrace.server.operations.block_reading import Unreadable
from headrace.server.operations.block_vault import FILE, KeyMissing, fingerprint, rotate
from headrace.server.store.tables import BLOCK_DOCUMENT
from headrace.server.store.transaction import Store
from headrace.settings import temporary_settings
from tests.operations.blocks_world import make_block, make_schema, values


@pytest.fixture(autouse=True)
def _no_key_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins like a process that has met no key."""
    monkeypatch.setattr(block_vault, "_met", {})


def keys_in(home: Path) -> list[str]:
    """The keys in the file of a home."""
    return (home / FILE).read_text().split()


def key_ids(store: Store) -> set[str]:
    """Which keys the documents are encrypted with."""
    return set(store.read(lambda tx: tx.execute(select(BLOCK_DOCUMENT.c.key_id)).scalars().all()))


def test_s12_the_key_is_made_when_first_needed(api: LocalClient, home: Path) -> None:
    """A key is made with the first block, in a file that only its owner can read, and kept."""
    schema = make_schema(api)
    assert not (home / FILE).exists()

    block = make_block(api, schema, password="canary")
    first = keys_in(home)
    make_block(api, schema, "another")

    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert [one.name for one in home.iterdir()] == [FILE]
    assert len(first) == 1
    assert keys_in(home) == first
    assert values(api, block.id) == {"password": "canary"}


def test_s12_processes_that_start_at_once_agree_on_a_key(home: Path) -> None:
    """Of several that make the file at the same time, one makes it, and all use its key."""
    code = "from headrace.server.operations.block_vault import _make_file; print(_make_file()[0])"
    command = [sys.executable, "-c", code]
    environment = {"HEADRACE_HOME": str(home), "PATH": ""}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]

    said = [one.communicate()[0].strip() for one in started]

    assert [one.returncode for one in started] == [0] * 4
    assert set(said) == set(keys_in(home))
    assert len(set(said)) == 1
    assert [one.name for one in home.iterdir()] == [FILE]


@pytest.mark.usefixtures("home")
def test_keys_can_be_given_by_a_setting(api: LocalClient, home: Path) -> None:
    """The first key of the setting encrypts, the others can still be read with; the home holds none."""
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    schema = make_schema(api)
    with temporary_settings({"PREFECT_SERVER_ENCRYPTION_KEY": old}):
        first = make_block(api, schema, "first", password="canary")
    with temporary_settings({"server.encryption_key": f"{new}, {old}"}):
        make_block(api, schema, "second")

        assert values(api, first.id) == {"password": "canary"}
        assert key_ids(api.store) == {fingerprint(old), fingerprint(new)}
        assert rotate(api.store) == (1, [])
        assert key_ids(api.store) == {fingerprint(new)}
        assert values(api, first.id) == {"password": "canary"}
    assert not (home / FILE).exists()


@pytest.mark.usefixtures("home")
def test_a_key_that_is_none_is_refused(api: LocalClient) -> None:
    """A setting that holds no key is named as what is wrong, and the key itself is not repeated."""
    schema = make_schema(api)

    with (
        temporary_settings({"server.encryption_key": "geheim"}),
        pytest.raises(ConfigurationError, match="HEADRACE_SERVER_ENCRYPTION_KEY") as refused,
    ):
        make_block(api, schema)
    assert "geheim" not in str(refused.value)


def test_s12_a_server_without_the_key_begins_no_second_one(api: LocalClient, home: Path, tmp_path: Path) -> None:
    """Where blocks are encrypted with a key that is not here, none is made and nothing is written."""
    schema = make_schema(api)
    block = make_block(api, schema, password="canary")
    block_vault._met.clear()

    with temporary_settings(home=str(tmp_path / "elsewhere")):
        with pytest.raises(KeyMissing, match=FILE):
            make_block(api, schema, "another")
        with pytest.raises(Unreadable):
            values(api, block.id)
        assert not (tmp_path / "elsewhere" / FILE).exists()
    assert values(api, block.id) == {"password": "canary"}


def test_s12_rotating_encrypts_all_anew(api: LocalClient, home: Path, store: Store) -> None:
    """After it the new key is first, all blocks are under it, and the key before it can still be read with."""
    schema = make_schema(api)
    blocks = [make_block(api, schema, f"block-{number}", password=f"canary-{number}") for number in range(3)]
    first = keys_in(home)[0]

    assert rotate(store) == (3, [])
    second = keys_in(home)[0]
    assert rotate(store) == (3, [])

    assert keys_in(home)[1:] == [second]
    assert first != second
    assert key_ids(store) == {fingerprint(keys_in(home)[0])}
    assert stat.S_IMODE((home / FILE).stat().st_mode) == 0o600
    assert [values(api, one.id) for one in blocks] == [{"password": f"canary-{number}"} for number in range(3)]


def test_s12_rotating_that_was_cut_off_leaves_all_readable(
    api: LocalClient, home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dies on the way leaves blocks under two keys, both readable; rotating again ends it."""
    schema = make_schema(api)
    blocks = [make_block(api, schema, f"block-{number}", password="canary") for number in range(3)]
    monkeypatch.setattr(block_vault, "AT_ONCE", 1)
    anew, count = block_vault._encrypt_anew, 0

    def killed(*arguments: object) -> object:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        return anew(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(block_vault, "_encrypt_anew", killed)
    with pytest.raises(KeyboardInterrupt):
        rotate(store)

    assert len(key_ids(store)) == 2
    block_vault._met.clear()
    assert [values(api, one.id) for one in blocks] == [{"password": "canary"}] * 3
    assert rotate(store) == (3, [])
    assert [values(api, one.id) for one in blocks] == [{"password": "canary"}] * 3
    assert len(key_ids(store)) == 1


def test_g13_a_broken_block_does_not_stop_rotating(api: LocalClient, home: Path, store: Store) -> None:
    """A block that cannot be read is left as it is and named; the others are encrypted anew."""
    schema = make_schema(api)
    blocks = [make_block(api, schema, f"block-{number}") for number in range(3)]
    broken = update(BLOCK_DOCUMENT).where(BLOCK_DOCUMENT.c.id == blocks[1].id).values(data="not a token")
    store.write(lambda tx: tx.execute(broken))

    assert rotate(store) == (2, [blocks[1].id])
    assert fingerprint(keys_in(home)[1]) in key_ids(store)
