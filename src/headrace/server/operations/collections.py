"""What is known of packages: the types of workers, each with the job template that a new pool of it begins with."""

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from headrace.exceptions import ObjectNotFound
from headrace.schemas.collections import READ_VIEW_CONTENT
from headrace.server.operations.registry import implements
from headrace.server.store.transaction import Tx

WORKERS = "aggregate-worker-metadata"


@implements(READ_VIEW_CONTENT, access="work_pools:read")
def read_view_content(tx: Tx, view: str) -> dict[str, Any]:  # noqa: ARG001  it is in a file
    """One view: `aggregate-worker-metadata` holds types of workers, by package and name."""
    if view != WORKERS:
        raise ObjectNotFound("View", view)
    return _workers()


@cache
def _workers() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(files(__package__).joinpath("worker_catalogue.json").read_bytes())
    return found
