"""What `import headrace` costs, and what it must not load."""

import subprocess
import sys

HEAVY = {
    "pydantic",
    "sqlalchemy",
    "httpx",
    "urllib3",
    "starlette",
    "uvicorn",
    "alembic",
    "rich",
    "yaml",
    "jinja2",
    "cloudpickle",
}


def loaded_after(statement: str) -> set[str]:
    """Names of the top-level modules a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_importing_the_sdk_loads_nothing_heavy() -> None:
    """`from headrace import flow, task` loads neither the database, nor pydantic, nor an HTTP library."""
    assert loaded_after("from headrace import flow, task") & HEAVY == set()


def test_asking_for_the_version_loads_no_library_at_all() -> None:
    """`headrace --version` answers before the command line's own libraries are loaded."""
    code = "import sys; sys.argv = ['headrace', '--version']\nfrom headrace.cli import main\nmain()"

    assert loaded_after(code) & (HEAVY | {"cyclopts", "msgspec"}) == set()
