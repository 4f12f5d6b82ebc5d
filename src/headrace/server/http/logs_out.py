"""The websocket on which clients hear of log lines: `/logs/out`.

    client  {"type": "filter", "filter": {...}}
    server  {"type": "log", "log": {...}}, again and again

Only lines that this server process takes in while the client listens, and only when the settings say so. Lines may be
left out for a client that is slow; all of them are found over HTTP.  # G17
"""

import asyncio
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import Struct, field
from starlette.websockets import WebSocket

from headrace.exceptions import ValidationFailed
from headrace.schemas.filters import LogFilter, Operator, TextSearch
from headrace.schemas.logs import Log
from headrace.server.events import hints
from headrace.server.http.sockets import (
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
from headrace.server.operations.logs import LINES
from headrace.server.store.caller import Caller
from headrace.server.store.tables.types import aware
from headrace.server.store.text_functions import words_of
from headrace.settings import Settings

FILTER_BYTES = 1 << 20


class Wanted(Struct):
    """Which log lines a client wants to hear of."""

    type: Literal["filter"]
    filter: LogFilter = field(default_factory=LogFilter)


def logs_out(doorkeeper: Doorkeeper, settings: Settings) -> Handler:
    """Make the handler of the socket."""
    logs = settings.server.logs
    reader = BodyReader(Wanted, settings.server.limits.json_depth)

    async def talk(socket: WebSocket, caller: Caller) -> None:
        if caller.work_pool is not None:  # S5: lines of all pools would come
            raise Closing(REFUSED, "authorization_failed")
        try:
            wanted = reader.read(await heard(socket))
        except ValidationFailed:
            raise Closing(UNREADABLE, "expected a filter") from None
        if logs.stream_out_enabled and logs.stream_publishing_enabled:
            await until_first(until_gone(socket), _tell(socket, wanted.filter))
        await until_gone(socket)

    return doorkeeper.handler(talk, "logs:read", frame=FILTER_BYTES)


async def _tell(socket: WebSocket, chosen: LogFilter) -> None:
    with hints.subscribe(LINES) as news:
        async for told in news:
            for row in told["rows"]:
                line = msgspec.convert({**row, "updated": row["created"]}, Log)
                if fits(chosen, line):
                    await send(socket, {"type": "log", "log": line})
            await asyncio.sleep(0)


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
        yield _text(chosen.text, line.message.lower())


def _task_run(among: list[UUID] | None, is_null: bool | None, id: UUID | None) -> bool:
    return (among is None or id in among) and (is_null is None or (id is None) is is_null)


def _text(chosen: TextSearch, message: str) -> bool:
    return all((word.lower() in message) is present for word, present in words_of(chosen.query))
