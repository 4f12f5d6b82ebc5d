"""Reading the audit log. Nothing changes it or deletes from it."""

from typing import Any

import msgspec
from sqlalchemy import Row, select

from headrace.schemas.audit import READ_AUDIT, AuditEntry, ReadAudit
from headrace.server.operations.paging import listed, page_size
from headrace.server.operations.registry import implements
from headrace.server.operations.rows import values_of
from headrace.server.store.tables import AUDIT
from headrace.server.store.transaction import Tx


def _read_row(row: Row[Any]) -> AuditEntry:
    return msgspec.convert(values_of(row), AuditEntry)


@implements(READ_AUDIT, access="audit:read")
def read_audit(tx: Tx, body: ReadAudit) -> list[AuditEntry]:
    """What was done, and denied, that somebody may have to account for; the newest first."""
    chosen = select(AUDIT)
    for column in (AUDIT.c.operation, AUDIT.c.subject, AUDIT.c.outcome):
        if (wanted := getattr(body, column.name)) is not None:
            chosen = chosen.where(column == wanted)
    if body.since is not None:
        chosen = chosen.where(AUDIT.c.moment >= body.since)
    if body.until is not None:
        chosen = chosen.where(AUDIT.c.moment < body.until)
    chosen = chosen.order_by(AUDIT.c.moment.desc(), AUDIT.c.id.desc())
    rows = tx.execute(chosen.limit(page_size(body.limit)).offset(body.offset))
    return listed(rows, _read_row, "row of the audit log")
