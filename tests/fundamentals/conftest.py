"""Each of these tests runs in a home of its own, in local mode: no server, nothing to set up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.engine import recorder
from headrace.logging.configuration import ensure_logging_setup, setup_logging
from headrace.settings import temporary_settings


@pytest.fixture(scope="session")
def fundamentals_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all of them, so that its database is made once."""
    return tmp_path_factory.mktemp("fundamentals")


@pytest.fixture(autouse=True)
def home(fundamentals_home: Path) -> Iterator[Path]:
    """The home folder: what `HEADRACE_HOME` names."""
    with temporary_settings(home=str(fundamentals_home)):
        ensure_logging_setup()
        setup_logging(incremental=True)  # the level of these settings, whatever test came before
        yield fundamentals_home
        recorder.reset()
