"""Servers of tasks, which all processes of a server know."""

import sqlalchemy as sa
from alembic import op

from headrace.server.store.tables.types import Id, Json, Moment

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "task_server",
        sa.Column("id", Id(), nullable=False),
        sa.Column("identifier", sa.String(), nullable=False),
        sa.Column("task_keys", Json(), nullable=False),
        sa.Column("timestamp", Moment(), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task_server")),
    )
