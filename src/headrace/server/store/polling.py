"""Waiting for one socket: by `select.poll`, and by `select.select` where that is missing, as on Windows.

`selectors` would do both, and takes twice as long each time.
"""

import select

READ: int = getattr(select, "POLLIN", 1)
WRITE: int = getattr(select, "POLLOUT", 4)


class Selecting:
    """What is used here of the object that `select.poll()` makes."""

    __slots__ = ("_events", "_socket")

    def register(self, socket: int, events: int) -> None:
        """Wait for these events of a socket from now on."""
        self._socket, self._events = socket, events

    modify = register

    def poll(self) -> None:
        """Wait until one of them has come."""
        socket = [self._socket]
        select.select(socket if self._events & READ else [], socket if self._events & WRITE else [], socket)


poller = getattr(select, "poll", Selecting)
"""Makes what waits."""
