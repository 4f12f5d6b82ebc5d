"""The audit log: who did, or was denied, what an operator may have to account for."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from headrace.schemas.endpoint import Endpoint


class AuditOutcome(StrEnum):
    """What became of a call."""

    ALLOWED = "allowed"
    DENIED = "denied"


class AuditEntry(Struct, kw_only=True):
    """A row of the audit log."""

    id: UUID
    moment: datetime
    actor: str
    """Who it was: a key with its id, `The administrator`, or `Anyone` where no login is asked for."""
    operation: str
    """What was called, as the API's description names it."""
    area: str
    """What kind of thing it was about: the part of a permission before the colon."""
    subject: str | None = None
    """Which one: its id, or what the call named it by."""
    name: str | None = None
    outcome: AuditOutcome
    address: str | None = None
    """Where the call came from; nothing for local mode, which works on the database itself."""
    times: int = 1
    """For how many calls the row stands: denials are summed up."""


class ReadAudit(Struct, kw_only=True):
    """Which rows; all that is given must hold."""

    since: datetime | None = None
    until: datetime | None = None
    operation: str | None = None
    subject: str | None = None
    outcome: AuditOutcome | None = None
    limit: int | None = None
    offset: Annotated[int, Meta(ge=0)] = 0


READ_AUDIT = Endpoint("POST", "/audit/filter", body=ReadAudit, returns=list[AuditEntry])
