"""The unmodified Prefect, as it comes from the package index, works against a headrace server.

What it does stands in `scripts/`, one file for each area. They are run by an interpreter that has Prefect and not
headrace, and know of the server only the URL. Each function of theirs that begins with `check_` is one test here.
"""

import re
from concurrent.futures import Future

import pytest

from tests.compat.conftest import SCRIPTS, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKS = [
    (path.stem, check)
    for path in sorted(SCRIPTS.glob("*.py"))
    for check in re.findall(r"^(?:async )?def check_(\w+)\(", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize(("script", "check"), CHECKS, ids=[f"{script}-{check}" for script, check in CHECKS])
def test_prefect_works_against_headrace(outcomes: dict[str, Future[Outcome]], script: str, check: str) -> None:
    """What Prefect's own server would answer, as far as its client can tell."""
    outcome = outcomes[script].result()

    assert check in outcome.failures, f"the script did not come to the end of this check:\n{outcome.output}"
    assert not outcome.failures[check], f"{outcome.failures[check]}\n{outcome.output}"
