"""What people type at the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from headrace.cli.inputs import moment_of_start, read_parameters, read_variables
from headrace.cli.output import ago, span
from headrace.exceptions import ValidationFailed

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10 minutes", 600), ("2h", 7200), ("in 1h 30m", 5400), ("1.5 days", 129600)]
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    """`--start-in` takes numbers with units, as people write them."""
    assert moment_of_start(text, None, NOW) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["soon", "10", "5 parsecs later"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    """A text that is no length of time is named in the error."""
    with pytest.raises(ValidationFailed, match=text):
        moment_of_start(text, None, NOW)


def test_a_run_starts_in_or_at_but_not_both() -> None:
    """The two ways to say when exclude each other."""
    assert moment_of_start(None, "2026-09-01T08:00+02:00") == datetime(2026, 9, 1, 6, tzinfo=UTC)
    with pytest.raises(ValidationFailed, match="not both"):
        moment_of_start("1h", "2026-09-01", NOW)


def test_parameters_are_json_where_they_can_be() -> None:
    """`--param` reads numbers, lists and objects as such, and anything else as text; it goes over `--params`."""
    given = read_parameters(["x=1", 'names=["a"]', "text=hello=you"], '{"x": 0, "y": null}')

    assert given == {"x": 1, "names": ["a"], "text": "hello=you", "y": None}


@pytest.mark.parametrize(("params", "everything"), [(["x"], None), (["=1"], None), (None, "[1]"), (None, "{")])
def test_parameters_that_cannot_be_read_are_refused(params: list[str] | None, everything: str | None) -> None:
    """The error says which option is wrong."""
    with pytest.raises(ValidationFailed, match="--param"):
        read_parameters(params, everything)


def test_no_job_variables_are_none() -> None:
    """Without `--job-variable` the run's variables are left alone."""
    assert read_variables(None) is None
    assert read_variables(['env={"A": "1"}']) == {"env": {"A": "1"}}


def test_moments_are_shown_as_people_say_them() -> None:
    """The largest fitting unit, in the past or the future."""
    assert ago(NOW - timedelta(minutes=3), NOW) == "3m ago"
    assert ago(NOW + timedelta(hours=2), NOW) == "in 2h"
    assert ago(None) == ""
    assert span(0.25) == "0.25s"
