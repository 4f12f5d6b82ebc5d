"""Several processes on one database, and processes that are killed while they write."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from headrace.server.store import open_store
from headrace.server.store.tables import FLOW
from tests.support import postgresql
from tests.support.writers import Writer, crowd


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/headrace.db"
    else:
        with postgresql.new_database() as fresh:
            yield fresh


def stored(url: str) -> set[str]:
    """The names of all flows."""
    store = open_store(url)
    try:
        return store.read(lambda tx: set(tx.execute(select(FLOW.c.name)).scalars()))
    finally:
        store.close()


def write_at_once(url: str, processes: int, rows: int) -> None:
    """Many processes open the database at the same moment and write; all of it must be there, and no complaint."""
    names = [f"writer {number}" for number in range(processes)]

    assert crowd(url, names, rows) == []
    assert stored(url) == {f"{name}-{row}" for name in names for row in range(rows)}


def test_six_processes_write_one_file(tmp_path: Path) -> None:
    """None of them meets `database is locked`, from creating the file on."""
    write_at_once(f"sqlite:///{tmp_path}/headrace.db", 6, 100)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_processes_write_one_file(tmp_path: Path) -> None:
    """A hundred at once are only slower."""
    write_at_once(f"sqlite:///{tmp_path}/headrace.db", 100, 100)


@pytest.mark.parametrize("acknowledged", [1, 37, 300])
def test_g1_what_was_acknowledged_survives_kill_9(url: str, acknowledged: int) -> None:
    """A writer killed at any moment has stored all it had acknowledged, in order and without holes."""
    writer = Writer(url, "row", 100_000)
    writer.wait_until_ready()
    writer.begin()
    said = writer.acknowledged(acknowledged)
    said += writer.kill()

    found = stored(url)
    assert set(said) <= found
    assert found == {f"row-{number}" for number in range(len(found))}
    assert len(found) - len(said) <= 1  # the one whose acknowledgement was under way


def test_a_killed_writer_holds_nobody_up(tmp_path: Path) -> None:
    """Others write on while one is killed in their midst."""
    url = f"sqlite:///{tmp_path}/headrace.db"
    victim, survivor = Writer(url, "victim", 100_000), Writer(url, "survivor", 200)
    victim.wait_until_ready()
    survivor.wait_until_ready()
    victim.begin()
    victim.acknowledged(20)
    survivor.begin()
    survivor.acknowledged(20)
    victim.kill()
    _, complaint = survivor.finish()

    assert complaint == ""
    assert {f"survivor-{number}" for number in range(200)} <= stored(url)
