"""Who may call the server. A key is kept as its SHA-256: 256 random bits need no slower hash.  # S5"""

from sqlalchemy import Column, Integer, LargeBinary, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Id, Json, Moment

API_KEY = Table(
    "api_key",
    METADATA,
    *identity(),
    Column("name", String, nullable=False, unique=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("permissions", Json, nullable=False),
    Column("work_pool", String),
    Column("expires", Moment),
    Column("last_used", Moment),
)

RUN_KEY = Table(
    "run_key",
    METADATA,
    Column("flow_run_id", Id, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("permissions", Json, nullable=False),
    Column("work_pool", String),
)
