"""Log lines and states as text."""

import logging

from rich.text import Text

from headrace.cli.output import console, state_text
from headrace.schemas.logs import Log
from headrace.schemas.states import State

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red", logging.DEBUG: "bright_black"}


def log_text(line: Log) -> Text:
    """A log line: time, level, logger, message."""
    level = logging.getLevelName(line.level)
    return Text.assemble(
        (line.timestamp.astimezone().strftime("%H:%M:%S.%f")[:-3], "bright_black"),
        f" {level:<8}",
        (f"{line.name} ", "bright_black"),
        (line.message, _STYLES.get(line.level, "")),
    )


def show_item(item: Log | State) -> None:
    """Print a log line, or a state as a line of its own."""
    if isinstance(item, Log):
        console().print(log_text(item), soft_wrap=True)
        return
    message = f": {item.message}" if item.message else ""
    console().print(Text("→ ", style="bold") + state_text(item) + Text(message), soft_wrap=True)
