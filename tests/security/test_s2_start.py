"""Beyond loopback nothing starts without a login or a word of the operator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_s2_the_server_ends_with_a_message(tmp_path: Path, host: str) -> None:
    """Exit code 1 and one message that says how to go on; nothing was opened, and no home was made."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "PREFECT_"))}
    home = tmp_path / "home"
    said = {"HEADRACE_HOME": str(home), "HEADRACE_SERVER_API_HOST": host, "HEADRACE_SERVER_API_PORT": "0"}

    ended = subprocess.run(
        [sys.executable, "-m", "headrace.server"],
        env=clean | said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (1, "")
    assert "HEADRACE_SERVER_API_AUTH_STRING" in ended.stderr
    assert "HEADRACE_SERVER_ALLOW_ANONYMOUS" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not home.exists()
