"""Alembic's environment: runs the scripts on the connection it is handed, inside that connection's transaction."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, create_engine

from headrace.server.store.tables import METADATA
from headrace.server.store.tables.types import Id, Json, Moment


def _plain_name(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    return f"{type(item).__name__}()" if kind == "type" and isinstance(item, Id | Json | Moment) else False


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=True,  # SQLite changes a column by copying the table
        render_item=_plain_name,
        transactional_ddl=True,  # on both: a migration that is killed leaves nothing behind  # G18
    )
    with context.begin_transaction():
        context.run_migrations()


handed: Connection | None = context.config.attributes.get("connection")
if handed is not None:
    _run(handed)
else:  # called by hand, to write a new script
    with create_engine(context.get_x_argument(as_dictionary=True)["url"]).begin() as scratch:
        _run(scratch)
