"""An audit log, which is only ever added to."""

import sqlalchemy as sa
from alembic import op

from headrace.server.store.tables.audit import APPEND_ONLY
from headrace.server.store.tables.types import Id, Moment

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", Id(), nullable=False),
        sa.Column("moment", Moment(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("operation", sa.String(), nullable=False),
        sa.Column("area", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit__moment_id", "audit", ["moment", "id"])
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
