"""Where log lines of runs go: to the console, and by the recorder to the API."""

import logging
import sys
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO
from uuid import UUID

from headrace._internal.ids import uuid7
from headrace.context import FlowRunContext, TaskRunContext
from headrace.exceptions import MissingContextError
from headrace.logging.formatters import ConsoleFormatter
from headrace.schemas.recording import LogRecord
from headrace.settings import get_settings
from headrace.settings.secret import mask

_sink: Callable[[LogRecord], None] | None = None
_plain = logging.Formatter()


def set_api_log_sink(sink: Callable[[LogRecord], None] | None) -> None:
    """Name who delivers log lines to the API; the recorder does so for itself when it is imported.

    Args:
        sink: called with each line; None for nobody.
    """
    global _sink
    _sink = sink


def emit_api_log(log: LogRecord) -> None:
    """Give a line to whoever delivers log lines."""
    if _sink is not None:
        _sink(log)


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Prints log lines to standard error, wherever that is at the time.

    Args:
        stream: another place to print to.
        level: the least level that is printed.
    """

    def __init__(self, stream: TextIO | None = None, level: int | str = logging.NOTSET, **_: Any) -> None:
        logging.Handler.__init__(self, level)
        self._own = stream
        self.formatter = ConsoleFormatter(get_settings().logging.colors and _is_terminal(self.stream))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # tests and notebooks replace sys.stderr at any time
        """Where lines are printed."""
        return self._own or sys.stderr

    def format(self, record: logging.LogRecord) -> str:
        """The line, without secrets."""
        return mask(super().format(record))


PrefectConsoleHandler = ConsoleHandler
"""The name that code written for Prefect knows it by."""


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


class APILogHandler(logging.Handler):
    """Gives log lines of runs to the recorder.

    A line belongs to the run that its record names (`flow_run_id`, `task_run_id`), else to the one the code is in.
    Lines that belong to none are not sent; `logging.to_api.when_missing_flow` says what is done about it.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Send a line."""
        try:
            settings = get_settings().logging.to_api
            if settings.enabled and _sink is not None and record.__dict__.get("send_to_api", True):
                line = self.prepare(record)
                if line is not None:
                    _sink(line)
        except MissingContextError:
            raise
        except Exception:  # noqa: BLE001  a line that cannot be sent must not end the run that wrote it
            self.handleError(record)

    def prepare(self, record: logging.LogRecord) -> LogRecord | None:
        """The line as it is sent; None when it belongs to no run.

        Raises:
            MissingContextError: it belongs to no run, and the settings say that this is an error.
        """
        fields = record.__dict__
        flow_run_id, task_run_id = fields.get("flow_run_id"), fields.get("task_run_id")
        if flow_run_id is None and task_run_id is None:
            task, flow = TaskRunContext.get(), FlowRunContext.get()
            here = (task.run if task is not None else flow.run).log_fields() if task or flow else {}  # type: ignore[union-attr]
            flow_run_id, task_run_id = here.get("flow_run_id"), here.get("task_run_id")
            if flow_run_id is None and task_run_id is None:
                self._without_run(record)
                return None
        return LogRecord(
            id=uuid7(),
            name=record.name,
            level=record.levelno,
            message=sendable(self._text(record), get_settings().logging.to_api.max_log_size),
            timestamp=datetime.fromtimestamp(record.created, UTC),
            flow_run_id=_id(flow_run_id),
            task_run_id=_id(task_run_id),
        )

    def _text(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = _plain.formatException(record.exc_info)
        if record.exc_text:
            text = f"{text}\n{record.exc_text}"
        if record.stack_info:
            text = f"{text}\n{record.stack_info}"
        return mask(text)

    def _without_run(self, record: logging.LogRecord) -> None:
        behaviour = get_settings().logging.to_api.when_missing_flow
        message = (
            f"The logger {record.name!r} sends its lines to the API with the run they belong to, but this one was "
            "written outside of every run. Use another logger there, or set HEADRACE_LOGGING_TO_API_WHEN_MISSING_FLOW "
            "to `ignore`."
        )
        if behaviour == "error":
            raise MissingContextError(message)
        if behaviour == "warn":
            warnings.warn(message, stacklevel=8)


class WorkerAPILogHandler(APILogHandler):
    """The same for workers, whose lines belong to a run only when they say so; others are not sent."""

    def _without_run(self, record: logging.LogRecord) -> None:
        del record


def sendable(text: str, limit: int) -> str:
    """`text` as JSON and every database can hold it, and not longer than `limit` bytes.

    Args:
        text: any text.
        limit: the most bytes it may have in UTF-8; one that has more is cut, and says so.
    """
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        text = text.encode("utf-8", "backslashreplace").decode()
        size = len(text.encode())
    if size <= limit:
        return text
    note = f"... (cut: it has {size} bytes, and {limit} are the most that is sent)"
    return text.encode()[: max(0, limit - len(note))].decode("utf-8", "ignore") + note


def _id(value: Any) -> UUID | None:
    return value if value is None or isinstance(value, UUID) else _parsed(str(value))


@lru_cache(256)
def _parsed(text: str) -> UUID:
    return UUID(text)
