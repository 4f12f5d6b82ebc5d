"""The client for coroutines."""

import asyncio
from typing import Any, TypeVar

from headrace.client.client import Client
from headrace.schemas.endpoint import Endpoint

ResultT = TypeVar("ResultT")


class AsyncClient:
    """Calls the API from coroutines: each call runs in a thread, so that the event loop goes on.

    Args:
        client: what makes the calls.
    """

    def __init__(self, client: Client) -> None:
        self.client = client

    @property
    def local(self) -> bool:
        """Whether the operations run in this process."""
        return self.client.local

    async def call(self, endpoint: Endpoint[ResultT], *, body: Any = None, **arguments: Any) -> ResultT:
        """As `Client.call`; one that is held holds one of the few threads of the event loop's pool."""

        def work() -> ResultT:
            return self.client.call(endpoint, body=body, **arguments)

        return await asyncio.to_thread(work)
