"""How a log line looks: on the console, and as JSON.

12:34:56.789 | INFO    | Flow run 'quick-otter' - Beginning ...
12:34:56.790 | WARNING | Task run 'fetch-0' - Slow answer
12:34:56.791 | ERROR   | headrace.recorder - ...
"""

import json
import logging
import time
import traceback
from typing import Any, Literal

_RESET = "\033[0m"
_COLORS = {
    logging.DEBUG: "\033[2m",
    logging.WARNING: "\033[33m",
    logging.ERROR: "\033[31m",
    logging.CRITICAL: "\033[1;31m",
}
Style = Literal["%", "{", "$"]


class ConsoleFormatter(logging.Formatter):
    """The line for people.

    Args:
        colors: colour the level.
    """

    def __init__(self, colors: bool = False) -> None:
        super().__init__()
        self.colors = colors
        self._second = -1
        self._clock = ""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without its traceback."""
        second = int(record.created)
        if second != self._second:
            self._clock, self._second = time.strftime("%H:%M:%S", time.localtime(second)), second
        fields = record.__dict__
        if (name := fields.get("task_run_name")) is not None:
            who = f"Task run {name!r}"
        elif (name := fields.get("flow_run_name")) is not None:
            who = f"Flow run {name!r}"
        else:
            who = record.name
        level = f"{record.levelname:<7}"
        if self.colors and (color := _COLORS.get(record.levelno)):
            level = f"{color}{level}{_RESET}"
        return f"{self._clock}.{int(record.msecs):03d} | {level} | {who} - {record.message}"


class PrefectFormatter(logging.Formatter):
    """A formatter with formats of their own for lines of flow runs and of task runs, for logging configurations.

    Args:
        format: of lines that belong to no run.
        datefmt: of times, as `time.strftime` knows it.
        style: of the formats: `%`, `{` or `$`.
        validate: check the formats.
        defaults: values of fields that a record lacks.
        task_run_fmt: of lines of task runs.
        flow_run_fmt: of lines of flow runs.
    """

    def __init__(
        self,
        format: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        validate: bool = True,
        *,
        defaults: dict[str, Any] | None = None,
        task_run_fmt: str | None = None,
        flow_run_fmt: str | None = None,
    ) -> None:
        super().__init__(format, datefmt, style, validate, defaults=defaults)

        def of(text: str | None) -> logging.Formatter:
            return self if text is None else logging.Formatter(text, datefmt, style, validate, defaults=defaults)

        self._task_run, self._flow_run = of(task_run_fmt), of(flow_run_fmt)

    def usesTime(self) -> bool:
        """Whether a format shows the time; it is computed in any case."""
        return True

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without its traceback."""
        name = record.name.rpartition(".")[2]
        formatter = {"task_runs": self._task_run, "flow_runs": self._flow_run}.get(name, self)
        return super().formatMessage(record) if formatter is self else formatter.formatMessage(record)


def format_exception_info(exc_info: Any) -> dict[str, Any]:
    """An exception as JSON can hold it.

    Args:
        exc_info: type, exception and traceback, as a log record has them.
    """
    kind, error, trace = exc_info
    if kind is None:
        return {}
    return {
        "type": kind.__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_tb(trace)) if trace is not None else None,
    }


class JsonFormatter(logging.Formatter):
    """A log record as a line of JSON.

    Args:
        fmt: `pretty` for one that spreads over several lines; anything else for one line.
        dmft: accepted.
        style: accepted.
    """

    def __init__(self, fmt: str = "", dmft: str | None = None, style: Style = "%") -> None:
        super().__init__(None, dmft, style, validate=False)
        self._indent = 2 if fmt == "pretty" else None

    def format(self, record: logging.LogRecord) -> str:
        """The record, with all its fields."""
        fields = dict(record.__dict__)
        fields["message"] = record.getMessage()
        if fields.get("exc_info"):
            fields["exc_info"] = format_exception_info(fields["exc_info"])
        fields["args"] = [str(one) for one in fields.get("args") or ()]
        return json.dumps(fields, default=str, indent=self._indent)
