"""What a launcher and its template process say to each other: JSON lines over a pair of sockets."""

from uuid import UUID

import msgspec
from msgspec import Struct


class Start(Struct, tag="start", omit_defaults=True):
    """Start a process for a flow run.

    Args:
        id: the flow run.
        environment: variables to set, or to take away (None); they name the run to the engine.
        command: the program and its arguments; None forks the template and runs the engine.
        directory: the working folder; that of the template when None.
        quiet: throw away what it prints.
        kind: runs with the same kind import the same packages; "" when that is not known.
    """

    id: UUID
    environment: dict[str, str | None] = {}
    command: list[str] | None = None
    directory: str | None = None
    quiet: bool = False
    kind: str = ""


class Signal(Struct, tag="signal"):
    """Send a signal to the process of a flow run; to all it has started too, when `group` is set."""

    id: UUID
    number: int
    group: bool = False


class Stop(Struct, tag="stop"):
    """End, as soon as all processes have ended."""


class Ready(Struct, tag="ready"):
    """The template has imported what it has to, and takes orders."""

    pid: int


class Started(Struct, tag="started"):
    """A process runs."""

    id: UUID
    pid: int


class Ended(Struct, tag="ended"):
    """A process has ended: with an exit code (0 or more), or by a signal (its number, negative).

    `error` says why it could not be started at all.
    """

    id: UUID
    code: int
    pid: int = 0
    error: str | None = None


Order = Start | Signal | Stop
Report = Ready | Started | Ended

encoder = msgspec.json.Encoder()
orders = msgspec.json.Decoder(Order)
reports = msgspec.json.Decoder(Report)


def line_of(message: Order | Report) -> bytes:
    """A message as it travels."""
    return encoder.encode(message) + b"\n"
