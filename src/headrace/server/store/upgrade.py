"""Brings a database of an older headrace up to the present schema, by Alembic.

A module of its own, which nothing imports but through its name, when there is something to upgrade: Alembic costs more
to import than most runs take.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from headrace.server.store import migrations

SCRIPTS = Path(migrations.__file__).parent
"""Alembic's environment and the scripts."""


def config_for(connection: Connection | None = None) -> Config:
    """Alembic's configuration of our scripts, to be run on `connection`."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revisions() -> list[str]:
    """All revisions there are scripts for, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(config_for()).walk_revisions()]


def upgrade(connection: Connection) -> None:
    """Run the scripts that are missing, inside the transaction of `connection`; it is the caller's to commit."""
    command.upgrade(config_for(connection), "head")
