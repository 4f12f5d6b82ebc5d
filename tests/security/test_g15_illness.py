"""The server knows when it is ill: a service that raises, hangs, or meets a broken library makes /ready red."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.server.services import runner as module
from headrace.server.services.runner import ServiceRunner, discover
from headrace.server.services.service import Service
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings
from tests.support.serving import ask, serving

NAMES = sorted(one.name for one in discover())


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets services that hang go on at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def broken(kind: str, release: threading.Event) -> Any:
    """A turn that does not succeed."""

    def turn(_: Store, __: Settings) -> int:
        if kind == "hangs":
            release.wait(60)
        if kind == "meets a broken library":
            raise ImportError("cannot import name 'x' from 'y'")
        raise RuntimeError("secret detail")

    return turn


def well(_: Store, __: Settings) -> int:
    """A turn that does nothing, well."""
    return 0


@pytest.mark.parametrize("kind", ["raises", "hangs", "meets a broken library"])
@pytest.mark.parametrize("name", NAMES)
def test_g15_each_service_that_is_ill_makes_ready_red(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, release: threading.Event, name: str, kind: str
) -> None:
    """503 that names the service and the kind of error, not its text; health stays green, and the others go on."""
    turned = threading.Event()

    def ill(store: Store, settings: Settings) -> int:
        turned.set()
        return int(broken(kind, release)(store, settings))

    services = [Service(one, 0.01, ill if one == name else well) for one in NAMES]
    runner = ServiceRunner(services, sqlite_store, get_settings())
    monkeypatch.setattr(module, "GRACE", 3600.0)
    with serving(sqlite_store, problems=runner.problems) as url:
        runner.start()
        assert turned.wait(30)
        before = ask(url, "GET", "/ready")
        runner.ticks[name].success -= 7200
        after, health = ask(url, "GET", "/ready"), ask(url, "GET", "/health")
    release.set()
    runner.stop()

    assert (before.status, after.status, health.status) == (200, 503, 200)
    said = after.json()["exception_message"]
    assert f"service {name} " in said
    assert "secret detail" not in said
    assert not any(f"service {other} " in said for other in NAMES if other != name)


def test_g15_a_lost_database_makes_ready_red(sqlite_store: Store) -> None:
    """Readiness asks the database; health does not."""
    with serving(sqlite_store) as url:
        before = ask(url, "GET", "/ready").status
        sqlite_store.close()
        after, health = ask(url, "GET", "/ready").status, ask(url, "GET", "/health").status

    assert (before, health) == (200, 200)
    assert after in (500, 503)
