"""Rows of the audit log for what is carried out, in the transaction that carries it out.  # S18

Which calls leave a row follows from what an operation is (`Operation.audited`): whatever administrators alone may
change, bulk deletes, and the calls that force a state or lay secrets open. What they are about is read from their
results. What is denied has no transaction of its own, see `headrace.server.http.denials`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import insert

from headrace._internal.ids import uuid7
from headrace.schemas.audit import AuditOutcome
from headrace.schemas.states import SetStateStatus
from headrace.server.operations.registry import Existing, Operation
from headrace.server.store.prepared import Prepared
from headrace.server.store.tables import AUDIT
from headrace.server.store.transaction import Tx

ALWAYS = "always"
_INSERT = Prepared(insert(AUDIT))
_IN_PATH = re.compile(r"{(\w+)}")

Subject = tuple[str | None, str | None]
"""What a call was about: its id, or what the call named it by, and its name."""


def leaves_row(operation: Operation, arguments: Mapping[str, Any]) -> bool:
    """Whether a call leaves a row in the audit log, and so has to be a writing transaction."""
    flag = operation.audited
    return bool(flag) and (
        flag == ALWAYS or bool(arguments.get(flag)) or bool(getattr(arguments.get("body"), flag, False))
    )


def carry_out(tx: Tx, operation: Operation, arguments: Mapping[str, Any]) -> Any:
    """Carry out an operation, with the rows it leaves in the audit log; returns its result."""
    result = operation.function(tx, **arguments)
    if leaves_row(operation, arguments):
        answer = result.value if isinstance(result, Existing) else result
        area = operation.access.partition(":")[0]
        _write(tx, operation.name, area, _subjects(operation, arguments, answer))
    return result


def note_act(tx: Tx, operation: str, area: str, subject: str | None) -> None:
    """Leave a row for what is no operation of the API.

    Args:
        tx: a writing transaction; its caller is who did it.
        operation: what was done.
        area: the kind of thing it was done to.
        subject: which one.
    """
    _write(tx, operation, area, [(subject, None)])


def note_denials(tx: Tx, rows: Iterable[Mapping[str, Any]]) -> None:
    """Leave rows for calls that were denied.

    Args:
        tx: a writing transaction.
        rows: `actor`, `operation`, `address`, and `times`: how many there were.
    """
    same = {"moment": tx.now, "area": "none", "subject": None, "name": None, "outcome": AuditOutcome.DENIED}
    tx.send(_INSERT, [{**row, **same, "id": uuid7()} for row in rows])


def _write(tx: Tx, operation: str, area: str, subjects: Sequence[Subject]) -> None:
    same = {
        "moment": tx.now,
        "actor": tx.caller.full_name,
        "operation": operation,
        "area": area,
        "outcome": AuditOutcome.ALLOWED,
        "address": tx.remote,
        "times": 1,
    }
    tx.send(_INSERT, [{**same, "id": uuid7(), "subject": subject, "name": name} for subject, name in subjects])


def _subjects(operation: Operation, arguments: Mapping[str, Any], answer: Any) -> list[Subject]:
    """What a call was about; nothing when the rules refused the state it would have forced."""
    if isinstance(answer, list):
        return [_subject(one) for one in answer]
    deleted = getattr(answer, "deleted", None)
    if deleted is not None:
        return [(str(id), None) for id in deleted]
    changed = getattr(answer, "results", None)
    if changed is not None:
        return [(str(one.flow_run_id), None) for one in changed if one.status is SetStateStatus.ACCEPT]
    if getattr(answer, "status", SetStateStatus.ACCEPT) is not SetStateStatus.ACCEPT:
        return []
    if hasattr(answer, "id"):
        return [_subject(answer)]
    named = [str(arguments[name]) for name in _IN_PATH.findall(operation.endpoint.path)]
    return [("/".join(named) or None, None)]


def _subject(thing: Any) -> Subject:
    return str(thing.id), getattr(thing, "name", None)
