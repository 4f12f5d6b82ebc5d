"""Keys of runs, which end with them."""

import sqlalchemy as sa
from alembic import op

from headrace.server.store.tables.types import Id, Json

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "run_key",
        sa.Column("flow_run_id", Id(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("permissions", Json(), nullable=False),
        sa.Column("work_pool", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("flow_run_id", name=op.f("pk_run_key")),
        sa.UniqueConstraint("digest", name=op.f("uq_run_key__digest")),
    )
