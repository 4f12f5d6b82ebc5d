"""The client of the API: `get_client().call(ENDPOINT, body=..., **arguments)`, over HTTP or in this process."""

from typing import TYPE_CHECKING, Any

from headrace.client.client import Client
from headrace.client.connect import close_clients, get_async_client, get_client

if TYPE_CHECKING:
    from headrace.client.asynchronous import AsyncClient

__all__ = ["AsyncClient", "Client", "close_clients", "get_async_client", "get_client"]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":
        from headrace.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
