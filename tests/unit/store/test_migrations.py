"""The schema: made at once or by migrations it is the same, and neither rivals nor kills leave it in pieces."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from headrace.server.store import open_store
from headrace.server.store.errors import StoreUnavailable
from headrace.server.store.schema import HEAD, is_for, stored_revision
from headrace.server.store.tables import METADATA
from headrace.server.store.upgrade import SCRIPTS, revisions, upgrade
from tests.support import postgresql

NEXT = """
import os, sys
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{head}"

def upgrade():
    op.add_column("flow", sa.Column("colour", sa.String()))
    if "wait" in sys.argv:
        print("half", flush=True)
        sys.stdin.read()
"""
OPEN = """
import sys
from pathlib import Path
from headrace.server.store import open_store, schema, upgrade, sqlite, postgresql
if sys.argv[2] != "-":
    upgrade.SCRIPTS = Path(sys.argv[2])
    schema.HEAD = sqlite.HEAD = postgresql.HEAD = "9999"
print("ready", flush=True)
if "go" in sys.argv:
    sys.stdin.readline()
store = open_store(sys.argv[1])
print("open", flush=True)
store.close()
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, once on each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/headrace.db"
    else:
        with postgresql.new_database() as fresh:
            yield fresh


def connect(url: str) -> Engine:
    """An engine on a database as a test looks at it, with nothing of ours in between."""
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def shape(connection: Connection) -> dict[str, Any]:
    """All a database says of its tables."""
    found = inspect(connection)
    definitions = "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :name AND sql IS NOT NULL"
    triggers = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = :name"
    if connection.dialect.name == "postgresql":
        definitions = "SELECT indexdef FROM pg_indexes WHERE tablename = :name AND indexname NOT LIKE 'alembic%'"
        triggers = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = CAST(:name AS regclass)"
    return {
        name: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], str(column["default"]))
                for column in found.get_columns(name)
            ],
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "unique": sorted(str(item["column_names"]) for item in found.get_unique_constraints(name)),
            "indexes": sorted(connection.execute(text(definitions), {"name": name}).scalars()),
            "triggers": sorted(connection.execute(text(triggers), {"name": name}).scalars()),
        }
        for name in found.get_table_names()
    }


def has_colour(url: str) -> bool:
    """Whether the column that the additional script adds is there."""
    with connect(url).connect() as connection:
        return "colour" in {column["name"] for column in inspect(connection).get_columns("flow")}


def revision_of(url: str) -> str | None:
    """The revision the database says it has."""
    with connect(url).connect() as connection:
        return stored_revision(connection)


def begin_opening(url: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a process that opens the database; it says `ready` first."""
    started = subprocess.Popen(
        [sys.executable, "-c", OPEN, url, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


def test_the_head_is_the_newest_script() -> None:
    """The revision in the code, which spares us loading Alembic, is that of the newest script."""
    assert revisions()[0] == HEAD


def test_migrations_build_what_the_tables_say(url: str, tmp_path: Path) -> None:
    """The scripts from nothing, and the tables at once, give the same schema, and Alembic sees no difference either."""
    with connect(url).begin() as connection:
        connection.execute(text("SELECT 1"))
        upgrade(connection)
        migrated = shape(connection)
        dialect = connection.dialect.name
        ours = {
            "include_object": lambda item, _, kind, *__: kind != "index" or is_for(item, dialect),
            "include_name": lambda name, *_: name not in {"event_default", "event_related_default"},
        }
        differences = compare_metadata(MigrationContext.configure(connection, opts=ours), METADATA)
        METADATA.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    open_store(url).close()

    with connect(url).begin() as connection:
        assert shape(connection) == migrated
    assert differences == []


@pytest.mark.parametrize("existing", [False, True])
def test_a_current_schema_is_opened_without_alembic(url: str, existing: bool) -> None:
    """Neither a fresh database nor one that is up to date makes a process import Alembic."""
    if existing:
        open_store(url).close()
    code = (
        f"import sys; from headrace.server.store import open_store; open_store({url!r}).close(); "
        "print('alembic' in sys.modules)"
    )

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"


def test_processes_that_start_at_once_share_one_schema(url: str) -> None:
    """Several processes open one fresh database at the same moment: one makes the schema, all are content."""
    started = [begin_opening(url, "-", "go") for _ in range(4)]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in started]

    assert answers == ["open\n"] * 4
    assert revision_of(url) == HEAD


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """Our migrations and one more, which adds a column to `flow`."""
    copied = tmp_path / "migrations"
    shutil.copytree(SCRIPTS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    (copied / "versions" / "9999_colour.py").write_text(NEXT.format(head=HEAD))
    return copied


def test_an_older_database_is_upgraded_and_a_killed_upgrade_resumed(url: str, scripts: Path) -> None:
    """An upgrade killed in its midst leaves the old schema whole; the next start upgrades it."""
    open_store(url).close()
    half = begin_opening(url, str(scripts), "wait")
    assert half.stdout is not None
    assert half.stdout.readline() == "half\n"
    half.send_signal(signal.SIGKILL)
    half.communicate()
    with connect(url).connect() as connection:
        before = (
            stored_revision(connection),
            "colour" in {item["name"] for item in inspect(connection).get_columns("flow")},
        )

    answers = [begin_opening(url, str(scripts)).communicate()[0] for _ in range(2)]

    assert before == (HEAD, False)
    assert answers == ["open\n"] * 2
    assert (revision_of(url), has_colour(url)) == ("9999", True)


@pytest.mark.parametrize("stamp", [None, "0abc"])
def test_tables_of_another_program_are_left_alone(url: str, stamp: str | None) -> None:
    """A database with tables that are not ours, or of a newer headrace, is refused in words and not changed."""
    with connect(url).begin() as connection:
        connection.execute(text("CREATE TABLE flow (id INTEGER)"))
        if stamp:
            connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
            connection.execute(text("INSERT INTO alembic_version VALUES (:stamp)"), {"stamp": stamp})
        before = shape(connection)

    with pytest.raises(StoreUnavailable, match=r"another program, or of a newer headrace"):
        open_store(url)

    with connect(url).connect() as connection:
        assert shape(connection) == before
