"""What is written to a connection, and when it leaves."""

import asyncio

from headrace.server.http.protocol import JoinedWrites


class Wire(asyncio.Transport):
    """A transport that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_what_is_written_in_one_turn_leaves_together() -> None:
    """The head and the body of an answer are one write; those of the next turn are another."""

    async def scene() -> list[bytes]:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        joined.write(b"head")
        joined.write(b"body")
        assert wire.sent == []
        await asyncio.sleep(0)
        joined.write(b"more")
        await asyncio.sleep(0)
        return wire.sent

    assert asyncio.run(scene()) == [b"headbody", b"more"]


def test_nothing_is_lost_by_closing() -> None:
    """What was written leaves before the connection is closed, and once."""

    async def scene() -> Wire:
        wire = Wire()
        joined = JoinedWrites(wire, asyncio.get_running_loop())
        joined.write(b"last words")
        joined.close()
        assert joined.is_closing()
        await asyncio.sleep(0)
        return wire

    wire = asyncio.run(scene())
    assert (wire.sent, wire.closed) == ([b"last words"], True)
