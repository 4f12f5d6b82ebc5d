"""Background services run in turns, apart from each other, and the server knows which of them are ill."""

import threading
from collections.abc import Callable
from typing import cast

import pytest

from headrace.server.services import runner as module
from headrace.server.services.runner import ServiceRunner, discover
from headrace.server.services.service import Service
from headrace.server.store.transaction import Store
from headrace.settings import Settings, get_settings

NO_STORE = cast(Store, None)


class Countdown:
    """A service that sets `reached` after so many turns, and raises in those of `failing`."""

    def __init__(self, turns: int, failing: Callable[[int], bool] = lambda _: False) -> None:
        self.turn, self.turns, self.failing = 0, turns, failing
        self.reached = threading.Event()

    def __call__(self, _: Store, __: Settings) -> int:
        self.turn += 1
        if self.turn >= self.turns:
            self.reached.set()
        if self.failing(self.turn):
            raise LookupError("the disk is gone")
        return 1


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services of tests are ill after three intervals, however short those are."""
    monkeypatch.setattr(module, "GRACE", 0.0)


def test_services_run_in_turns_until_they_are_stopped() -> None:
    """Each has its turns, and none after `stop`."""
    first, second = Countdown(3), Countdown(3)
    runner = ServiceRunner([Service("first", 0.01, first), Service("second", 0.01, second)], NO_STORE, get_settings())

    runner.start()
    assert first.reached.wait(30)
    assert second.reached.wait(30)
    runner.stop()
    turns = first.turn, second.turn

    assert (runner.ticks["first"].turns, runner.ticks["second"].turns) == turns


def test_a_failing_turn_is_counted_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    """An error is logged; afterwards the service is well again."""
    service = Countdown(3, failing=lambda turn: turn == 1)
    runner = ServiceRunner([Service("shaky", 0.01, service)], NO_STORE, get_settings())

    runner.start()
    assert service.reached.wait(30)
    runner.stop()

    tick = runner.ticks["shaky"]
    assert (tick.failures, tick.error) == (1, None)
    assert tick.turns >= 2
    assert "the disk is gone" in caplog.text


def test_g15_a_service_without_success_is_a_problem() -> None:
    """Three periods without a success make the server unready; the problem names the service and the error."""
    service = Countdown(20, failing=lambda _: True)
    runner = ServiceRunner([Service("sick", 0.01, service)], NO_STORE, get_settings())

    runner.start()
    assert service.reached.wait(30)
    problems = runner.problems()
    runner.stop()

    assert len(problems) == 1
    assert "service sick" in problems[0]
    assert "LookupError" in problems[0]


def test_g15_a_service_that_hangs_is_a_problem_and_holds_up_no_other() -> None:
    """A turn that never ends is noticed, while the other services go on."""
    release = threading.Event()

    def hang(_: Store, __: Settings) -> int:
        return int(release.wait(60))

    well = Countdown(30)
    runner = ServiceRunner([Service("hanging", 0.01, hang), Service("well", 0.01, well)], NO_STORE, get_settings())

    runner.start()
    assert well.reached.wait(30)
    problems = runner.problems()
    release.set()
    runner.stop()

    assert [one.split()[1] for one in problems] == ["hanging"]


def test_every_service_of_the_package_is_found() -> None:
    """Each module with a function `service` is one, under a name of its own."""
    names = [one.name for one in discover()]

    assert len(names) == len(set(names))
    assert names
