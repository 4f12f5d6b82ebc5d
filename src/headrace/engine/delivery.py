"""Giving the API what was recorded: one batch or one proposed state at a time.

The caller is told one of three things. The call returned: the API has it. `NotNow`: try the same again later (the
server is away, overloaded, or does not accept our key at present). Anything the API finds wrong for good is narrowed
down by halves to the records that are at fault; those are set aside in `<home>/spool/set-aside/` with the reason,
and the rest arrives: one bad record must not hold up the others.  # G13
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from headrace.engine import spool
from headrace.engine.spool import ProposedState
from headrace.exceptions import ApiError, ApiUnreachable, HeadraceError, RateLimited
from headrace.schemas.flow_runs import SET_FLOW_RUN_STATE
from headrace.schemas.recording import RECORD, LogRecord, Recorded, Records, RefusedRecord, TaskRunRecord
from headrace.schemas.states import OrchestrationResult

logger = logging.getLogger("headrace.recorder")

LARGEST_LINE = 4 << 20  # bytes; the server takes bodies of up to 8 MiB
_FOR_NOW = frozenset({401, 403, 408, 423, 425, 429})


class Caller(Protocol):
    """The part of a client that is needed here."""

    @property
    def local(self) -> bool:
        """Whether calls run in this process, on the database itself."""
        ...

    def call(self, endpoint: Any, *, body: Any = None, **arguments: Any) -> Any:
        """Make one call."""
        ...

    def together(self, calls: Callable[[Any], Any]) -> Any:
        """Make several calls, in local mode in one transaction."""
        ...


class NotNow(Exception):
    """The same should be tried again after `delay` seconds, if the API said when."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.delay = cause.retry_after if isinstance(cause, RateLimited) else None
        self.certain = isinstance(cause, OSError) or (isinstance(cause, ApiError) and cause.status != 500)
        """False for an error nobody foresaw: it may be the fault of what is sent."""


def connected(connect: Callable[[], Caller]) -> Caller:
    """The client.

    Raises:
        NotNow: there is none at present: the database cannot be opened, say.
    """
    try:
        return connect()
    except (HeadraceError, OSError) as error:
        raise NotNow(error) from error


def deliver(client: Caller, item: Records | msgspec.Raw | ProposedState, aside: Path, *, patient: bool = True) -> None:
    """Give `item` to the API; returns when it is stored there or set aside.

    Args:
        client: whom to call.
        item: what to send; raw records are sent as they are.
        aside: folder for what the API will never take.
        patient: also try again later after an error that nobody foresaw, instead of setting the item aside.

    Raises:
        NotNow: it is to be tried again.
    """
    try:
        if isinstance(item, ProposedState):
            client.call(SET_FLOW_RUN_STATE, id=item.id, body=item.body)
        else:
            recorded = client.call(RECORD, body=item)
            if recorded is not None and recorded.refused:
                _set_refused_aside(item, recorded.refused, aside)
    except Exception as error:  # whatever went wrong, what was recorded must not be lost by it
        if _passing(error) or (patient and not NotNow(error).certain):
            raise NotNow(error) from error
        _refused(client, item, aside, error, patient)


def deliver_with_proposal(
    client: Caller, records: Records, proposed: ProposedState, aside: Path
) -> OrchestrationResult:
    """Give the API the last records of a flow run and propose its final state, in one transaction of the database.

    Args:
        client: whom to call, in local mode.
        records: what to record.
        proposed: the state.
        aside: folder for what the API will never take.

    Returns:
        The answer to the proposal.

    Raises:
        Exception: one of the two could not be carried out, so neither was.
    """

    def both(api: Caller) -> tuple[Recorded | None, OrchestrationResult]:
        return api.call(RECORD, body=records), api.call(SET_FLOW_RUN_STATE, id=proposed.id, body=proposed.body)

    recorded: Recorded | None
    answer: OrchestrationResult
    recorded, answer = client.together(both)
    if recorded is not None and recorded.refused:
        _set_refused_aside(records, recorded.refused, aside)
    return answer


def _passing(error: Exception) -> bool:
    if isinstance(error, ApiError):
        return isinstance(error, ApiUnreachable | RateLimited) or error.status > 500 or error.status in _FOR_NOW
    return isinstance(error, OSError)


def _refused(
    client: Caller, item: Records | msgspec.Raw | ProposedState, aside: Path, error: Exception, patient: bool
) -> None:
    if isinstance(item, msgspec.Raw):
        raw = item
        try:
            item = spool.decode_records(raw)
        except msgspec.DecodeError:
            return set_aside(aside, bytes(memoryview(raw)), error)
    if isinstance(item, Records):
        halves = _halves(item)
        if halves is not None:
            for half in halves:
                deliver(client, half, aside, patient=patient)
            return None
    return set_aside(aside, _text(item), error)


def _set_refused_aside(item: Records | msgspec.Raw, refused: list[RefusedRecord], aside: Path) -> None:
    """Keep those records of a batch that the API could not store, although it stored the others."""
    records = spool.decode_records(item) if isinstance(item, msgspec.Raw) else item
    reasons = {one.id: one.reason for one in refused}
    everything: list[TaskRunRecord | LogRecord] = [*records.task_runs, *records.logs]
    for record in everything:
        if record.id in reasons:
            set_aside(aside, _text(record), reasons[record.id])


def lines_of(item: Records | ProposedState, aside: Path) -> list[bytes]:
    """What to write into the spool for `item`: lines of a size that the server takes.

    Args:
        item: a batch or a state.
        aside: folder for records that cannot be written as JSON.
    """
    if isinstance(item, ProposedState):
        return [spool.state_line(item)]
    try:
        encoded = msgspec.json.encode(item)
    except Exception as error:  # noqa: BLE001  a name with half a surrogate pair, a label of a strange type
        if (halves := _halves(item)) is None:
            set_aside(aside, _text(item), error)
            return []
    else:
        halves = _halves(item) if len(encoded) > LARGEST_LINE else None
        if halves is None:
            return [spool.records_line(encoded)]
    return [line for half in halves for line in lines_of(half, aside)]


def _text(item: Any) -> bytes:
    try:
        return msgspec.json.encode(item)
    except Exception:  # noqa: BLE001  see above
        return repr(item).encode(errors="backslashreplace")


def _halves(records: Records) -> tuple[Records, Records] | None:
    """The batch in two, or None when it holds a single record."""
    everything: list[TaskRunRecord | LogRecord] = [*records.task_runs, *records.logs]
    if len(everything) < 2:
        return None
    middle = len(everything) // 2
    return _batch(everything[:middle]), _batch(everything[middle:])


def _batch(records: list[TaskRunRecord | LogRecord]) -> Records:
    return Records(
        task_runs=[record for record in records if isinstance(record, TaskRunRecord)],
        logs=[record for record in records if isinstance(record, LogRecord)],
    )


def set_aside(folder: Path, content: bytes, error: Exception | str) -> None:
    """Keep what the API refused for good where a person can look at it, and say so."""
    path = folder / f"{os.getpid()}-{time.time_ns():x}.json"
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(msgspec.json.encode({"reason": reason, "content": content.decode(errors="replace")}))
        kept = f"It is kept in {path}."
    except OSError as trouble:
        kept = f"It could not be kept in {path} either: {trouble}."
    logger.warning("The API refused a record for good (%s). %s", reason, kept)
