"""What somebody may have to account for. Rows are only ever added: the database itself refuses anything else.  # S18"""

from sqlalchemy import Column, Index, Integer, String, Table

from headrace.server.store.tables.metadata import METADATA
from headrace.server.store.tables.types import Id, Moment

_REFUSAL = "The audit log is only ever added to."
APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_no_{word.lower()} BEFORE {word} ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for word in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$",
        "CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
        "CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_refuse()",
    ],
}
"""What refuses changes, by dialect."""

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Id, primary_key=True),
    Column("moment", Moment, nullable=False),
    Column("actor", String, nullable=False),
    Column("operation", String, nullable=False),
    Column("area", String, nullable=False),
    Column("subject", String),
    Column("name", String),
    Column("outcome", String, nullable=False),
    Column("address", String),
    Column("times", Integer, nullable=False),
    Index(None, "moment", "id"),
    info={"also": APPEND_ONLY},
)
