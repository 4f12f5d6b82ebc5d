"""`headrace audit`: who did, or was denied, what somebody may have to account for."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from headrace.cli.inputs import read_span
from headrace.cli.output import OutputOption, show_json, show_table
from headrace.client import get_client
from headrace.schemas.audit import READ_AUDIT, AuditEntry, AuditOutcome, ReadAudit


def show_audit(
    *,
    since: str | None = None,
    operation: str | None = None,
    denied: Annotated[bool, Parameter(negative="")] = False,
    limit: Annotated[int, Parameter(name=["--limit", "-l"])] = 50,
    output: OutputOption = None,
) -> None:
    """Show the audit log, the newest first.

    Args:
        since: how far back, such as `12h` or `7d`; all of it when absent.
        operation: only this one, such as `create_api_key`.
        denied: only what was denied.
        limit: how many rows at most.
        output: `json` prints the data as JSON.
    """
    body = ReadAudit(
        since=datetime.now(UTC) - read_span(since, "--since") if since else None,
        operation=operation,
        outcome=AuditOutcome.DENIED if denied else None,
        limit=limit,
    )
    found = get_client().call(READ_AUDIT, body=body)
    if output == "json":
        show_json(found)
        return
    columns = ("When", "Who", "From", "What", "Of what", "Outcome", "Times")
    show_table("Audit log", columns, [_cells(one) for one in found])


def _cells(one: AuditEntry) -> tuple[str, ...]:
    subject = f"{one.name} ({one.subject})" if one.name else one.subject or ""
    moment = f"{one.moment:%Y-%m-%d %H:%M:%S}"
    return moment, one.actor, one.address or "here", one.operation, subject, one.outcome, str(one.times)
