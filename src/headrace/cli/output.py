"""How the command line shows things: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.schemas.states import State, StateType

OutputOption = Annotated[
    Literal["json"] | None, Parameter(name=["--output", "-o"], help="`json` prints the data as JSON, for programs.")
]

_STYLES = {
    StateType.COMPLETED: "green",
    StateType.FAILED: "red",
    StateType.CRASHED: "bold red",
    StateType.CANCELLED: "bright_black",
    StateType.CANCELLING: "bright_black",
    StateType.RUNNING: "cyan",
    StateType.PENDING: "yellow",
    StateType.SCHEDULED: "yellow",
    StateType.PAUSED: "magenta",
}
WIDE = 240
"""Columns of a table that goes to a file or a pipe: programs that read it do not want lines broken."""
_UNITS = (("y", 31_536_000), ("d", 86_400), ("h", 3_600), ("m", 60))


def console() -> Console:
    """Where results go: standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def error_console() -> Console:
    """Where errors and notices go: standard error."""
    return Console(stderr=True, highlight=False)


def fail(message: str) -> int:
    """Print an error and return the exit code that goes with it."""
    error_console().print(Text("Error: ", style="bold red") + Text(message), soft_wrap=True)
    return 1


def done(message: str) -> None:
    """Say that something was done."""
    console().print(Text(message, style="green"), soft_wrap=True)


def show_json(value: Any) -> None:
    """Print structs or plain data as indented JSON."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str | Text | None]]) -> None:
    """Print rows under their columns; an empty list says so instead."""
    table = Table(
        title=title, title_justify="left", header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell or "") for cell in row))
    if table.row_count:
        console().print(table)
    else:
        console().print(Text(f"{title}: none", style="bright_black"))


def state_text(state: State | None, type_: StateType | None = None, name: str | None = None) -> Text:
    """A state's name in its colour."""
    kind = state.type if state else type_
    label = (state.name if state else name) or (kind.value.capitalize() if kind else "")
    return Text(label, style=_STYLES.get(kind, "") if kind else "")


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """A moment as people say it: `3m ago`, `in 2h`; empty for none."""
    if moment is None:
        return ""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    length = span(abs(seconds))
    return f"{length} ago" if seconds >= 0 else f"in {length}"


def span(seconds: float | None) -> str:
    """A length of time in its largest fitting unit."""
    if seconds is None:
        return ""
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.0f}s"
