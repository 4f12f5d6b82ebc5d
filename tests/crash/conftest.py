"""An installation for each test, with a server that runs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.processes import Installation, installation


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def headrace(tmp_path: Path) -> Iterator[Installation]:
    """A home with a running server."""
    with installation(tmp_path, free_port()) as made:
        made.start_server()
        yield made
