"""How the processes of one server pass hints on to each other: a pipe for each, into which the others write.

A hint is a line of JSON, written whole or not at all; one that is too long, or that a full pipe does not take, is lost
as hints may be.  # G17
"""

import os
import select
from asyncio import AbstractEventLoop
from contextlib import suppress
from typing import Any

import msgspec

from headrace.server.events import hints

LONGEST = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes from several writers without mixing them up."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[str, dict[str, Any]]).decode


class Exchange:
    """The pipes of all processes, made before these are forked.

    Args:
        count: how many processes there are.
    """

    def __init__(self, count: int) -> None:
        self._pipes = [os.pipe() for _ in range(count)]
        for end in (end for pipe in self._pipes for end in pipe):
            os.set_blocking(end, False)
        self._own, self._others, self._rest = -1, list[int](), b""

    def join(self, number: int) -> None:
        """Be one of the processes from now on: pass on to the others what is published here.

        Args:
            number: which of them this is; one that died is followed by another of the same number.
        """
        self._own = self._pipes[number][0]
        self._others = [pipe[1] for other, pipe in enumerate(self._pipes) if other != number]
        hints.pass_on(self._tell)

    def listen(self, loop: AbstractEventLoop) -> None:
        """Publish in this process what the others pass on, as long as the loop runs."""
        loop.add_reader(self._own, self._hear)

    def close(self) -> None:
        """Close the pipes of this process's copy."""
        hints.pass_on(None)
        for end in (end for pipe in self._pipes for end in pipe):
            os.close(end)

    def _tell(self, topic: str, payload: dict[str, Any]) -> None:
        line = _encode((topic, payload)) + b"\n"
        for end in self._others if len(line) <= LONGEST else ():
            with suppress(OSError):  # it is full, or closed at the very end
                os.write(end, line)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            *lines, self._rest = (self._rest + os.read(self._own, 1 << 16)).split(b"\n")
            for line in lines:
                with suppress(
                    msgspec.DecodeError
                ):  # the rest of one of which a process that died had read the beginning
                    hints.publish_here(*_decode(line))
