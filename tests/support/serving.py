"""A real server in a thread of the test process, on a free port."""

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from msgspec.structs import replace

from headrace.server.http.app import create_app
from headrace.server.http.process import bind, configuration, url_of
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@contextmanager
def serving(store: Store, settings: Settings | None = None, **options: Any) -> Iterator[str]:
    """Serve `store` and give the URL of the API; `options` are those of `create_app`."""
    settings = settings or get_settings()
    with closing(bind("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        api = replace(settings.server.api, host="127.0.0.1", port=port)
        settings = replace(settings, server=replace(settings.server, api=api))
        server = _Server(configuration(create_app(store, settings, **options), settings))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])), daemon=True)
        thread.start()
        assert server.is_up.wait(30), "The server did not start."
        try:
            yield url_of("127.0.0.1", port)
        finally:
            server.should_exit = True
            thread.join(30)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def ask(url: str, method: str, path: str, body: bytes | str | dict[str, Any] | None = None, **headers: str) -> Answer:
    """Send one raw call below the API's URL; underscores in names of headers stand for hyphens."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    raw = json.dumps(body) if isinstance(body, dict) else body
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(connection):
        connection.request(method, parts.path + path, body=raw, headers=named)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
