"""A served shelf of books, and its URL."""

from collections.abc import Iterator

import pytest

from headrace.server.store.transaction import Store
from tests.support import shelf
from tests.support.serving import serving


@pytest.fixture
def api(sqlite_store: Store) -> Iterator[str]:
    """The URL of an API with an empty shelf."""
    shelf.prepare(sqlite_store)
    with serving(sqlite_store, operations=shelf.operations()) as url:
        yield url
