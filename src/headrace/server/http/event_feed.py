"""The newest events for all who listen in this process."""

import msgspec

from headrace.schemas.events import ReceivedEvent
from headrace.server.events.cursors import Place, end_of_log, read_behind
from headrace.server.events.log import NEWS
from headrace.server.http.feed import AT_ONCE, Batch, Feed, News
from headrace.server.operations.events import read_event_row
from headrace.server.operations.paging import listed
from headrace.server.store.transaction import Store, Tx

_encode = msgspec.json.Encoder().encode


def frame_of(event: ReceivedEvent) -> bytes:
    """The frame that tells an event."""
    return b'{"type":"event","event":' + _encode(event) + b"}"


class EventFeed(Feed[ReceivedEvent]):
    """Follows the log of events.

    Args:
        store: the database.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store, NEWS)

    async def begin(self) -> Place:
        """Begin at the end of the log."""
        return await self._store.read_soon(end_of_log)

    def read(self, tx: Tx, place: Place) -> Batch[ReceivedEvent]:
        """Read the next events."""
        rows = read_behind(tx, place, AT_ONCE)
        news = [News(one, frame_of(one)) for one in listed(rows, read_event_row, "event")]
        return Batch((rows[-1].xid, rows[-1].seq) if rows else place, news, len(rows) == AT_ONCE)
