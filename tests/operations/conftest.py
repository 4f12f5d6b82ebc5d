"""Calls for the tests of operations: through local mode, which checks and converts arguments as the server does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.client.local import LocalClient
from headrace.server.store.transaction import Store
from headrace.settings import temporary_settings


@pytest.fixture
def api(store: Store) -> LocalClient:
    """The API on an empty store; the test runs once on each database."""
    return LocalClient(store)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder of the test's own, where keys are kept."""
    with temporary_settings(home=str(tmp_path / "home")):
        yield tmp_path / "home"
