"""Who may call the server. A key is kept as its SHA-256: 256 random bits need no slower hash.  # S5"""

from sqlalchemy import Column, LargeBinary, String, Table

from headrace.server.store.tables.metadata import METADATA, identity
from headrace.server.store.tables.types import Json, Moment

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
