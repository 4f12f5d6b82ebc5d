"""What became of a process, in words."""

import re

import pytest

from headrace.runner.outcomes import ended_as


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (1, "ended with exit code 1"),
        (127, "its command was not found"),
        (-9, r"signal 9 \(SIGKILL\), often because .* memory"),
        (137, r"exit code 137, as by signal 9 \(SIGKILL\), often because .* memory"),
        (-11, "not written in Python"),
        (-15, r"signal 15 \(SIGTERM\)$"),
    ],
)
def test_an_end_is_said_in_words(code: int, words: str) -> None:
    """Exit codes, signals, and those that shells make of signals."""
    assert re.search(words, ended_as(code))


def test_what_is_known_better_is_said() -> None:
    """An error from starting the process replaces the code."""
    assert ended_as(127, "no such folder") == "could not go on: no such folder"
