"""The examples of the documentation are programs that run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path) -> None:
    """An example ends well in a home of its own; its assertions are part of it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_", "PREFECT_"))}
    environment = clean | {"HEADRACE_HOME": str(tmp_path)}

    answer = subprocess.run(
        [sys.executable, str(example)], env=environment, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stderr


def test_every_example_is_shown() -> None:
    """An example that no page shows is not documentation."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r'--8<-- "examples/(\w+)\.py"', pages))

    assert shown == {example.stem for example in EXAMPLES}
