"""The websocket on which clients hear of log lines: `/logs/out`.

    client  {"type": "filter", "filter": {...}}
    server  {"type": "log", "log": {...}}, again and again

Only lines that are written while the client listens, by whatever server process, and only when the settings say so. A
client that is too slow is sent away; all lines are found over HTTP.  # G14
"""

from collections.abc import Iterator
from typing import Literal
from uuid import UUID

from msgspec import Struct, field
from starlette.websockets import WebSocket

from headrace.exceptions import ValidationFailed
from headrace.schemas.filters import LogFilter, Operator
from headrace.schemas.logs import Log
from headrace.server.http.line_feed import LineFeed
from headrace.server.http.sockets import (
    COME_AGAIN,
    NOT_ALLOWED,
    REFUSED,
    UNREADABLE,
    Closing,
    Doorkeeper,
    Handler,
    heard,
    send,
    until_first,
    until_gone,
)
from headrace.server.operations.arguments import BodyReader
from headrace.server.store.caller import Caller
from headrace.server.store.tables.types import aware
from headrace.server.store.text_functions import has_words
from headrace.server.store.transaction import Store
from headrace.settings import Settings

FILTER_BYTES = 1 << 20


class Wanted(Struct):
    """Which log lines a client wants to hear of."""

    type: Literal["filter"]
    filter: LogFilter = field(default_factory=LogFilter)


def logs_out(store: Store, doorkeeper: Doorkeeper, settings: Settings) -> Handler:
    """Make the handler of the socket."""
    logs, feed = settings.server.logs, LineFeed(store)
    reader = BodyReader(Wanted, settings.server.limits.json_depth)

    async def talk(socket: WebSocket, caller: Caller) -> None:
        if caller.work_pool is not None:  # S5: lines of all pools would come
            raise Closing(REFUSED, NOT_ALLOWED)
        try:
            wanted = reader.read(await heard(socket))
        except ValidationFailed:
            raise Closing(UNREADABLE, "expected a filter") from None
        if logs.stream_out_enabled and logs.stream_publishing_enabled:
            await until_first(until_gone(socket), _tell(socket, feed, wanted.filter))
        await until_gone(socket)

    return doorkeeper.handler(talk, "logs:read", frame=FILTER_BYTES)


async def _tell(socket: WebSocket, feed: LineFeed, chosen: LogFilter) -> None:
    async with feed.listening() as listener:
        while True:
            try:
                news = await listener.next_ones()
            except TimeoutError:
                raise Closing(COME_AGAIN, "too slow") from None
            for line, frame in news:
                if fits(chosen, line):
                    await send(socket, frame)


def fits(chosen: LogFilter, line: Log) -> bool:
    """Whether a line is what a filter asks for: what `store.filters` says in SQL."""
    found = list(_conditions(chosen, line))
    return all(found) or (chosen.operator is Operator.or_ and any(found))


def _conditions(chosen: LogFilter, line: Log) -> Iterator[bool]:
    if chosen.flow_run_id is not None and chosen.flow_run_id.any_ is not None:
        yield line.flow_run_id in chosen.flow_run_id.any_
    if chosen.task_run_id is not None:
        yield _task_run(chosen.task_run_id.any_, chosen.task_run_id.is_null_, line.task_run_id)
    if chosen.level is not None:
        least, most = chosen.level.ge_, chosen.level.le_
        yield (least is None or line.level >= least) and (most is None or line.level <= most)
    if chosen.timestamp is not None:
        after, before = chosen.timestamp.after_, chosen.timestamp.before_
        moment = aware(line.timestamp)
        yield (after is None or moment >= aware(after)) and (before is None or moment <= aware(before))
    if chosen.text is not None:
        yield has_words([line.message], chosen.text.query)


def _task_run(among: list[UUID] | None, is_null: bool | None, id: UUID | None) -> bool:
    return (among is None or id in among) and (is_null is None or (id is None) is is_null)
