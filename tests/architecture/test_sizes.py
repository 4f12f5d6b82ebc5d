"""The code stays small enough for one person to read: budgets for modules and functions.

What is over budget stands in `EXCEPTIONS` with its own number, which may only fall.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE_LINES, TEST_LINES, FUNCTION_LINES = 400, 600, 40
EXCEPTIONS: dict[str, int] = {}


def sources(folder: str) -> Iterator[Path]:
    """Python files of a folder, but for migrations, which are history and not read."""
    return (path for path in (ROOT / folder).rglob("*.py") if "migrations" not in path.parts)


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Length of a function without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1


@pytest.mark.parametrize(
    ("folder", "budget"), [("src", MODULE_LINES), ("benchmarks", MODULE_LINES), ("tests", TEST_LINES)]
)
def test_modules_fit_their_budget(folder: str, budget: int) -> None:
    """No module is longer than its budget, or than its own number in the list of exceptions."""
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources(folder)}

    too_long = {name: lines for name, lines in lengths.items() if lines > EXCEPTIONS.get(name, budget)}

    assert too_long == {}


def test_functions_fit_a_screen() -> None:
    """No function of the package is longer than 40 lines of code, or than its own number in the exceptions."""
    too_long = {}
    for path in sources("src"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path.relative_to(ROOT)}:{node.name}"
                if code_lines(node) > EXCEPTIONS.get(name, FUNCTION_LINES):
                    too_long[name] = code_lines(node)

    assert too_long == {}


def test_exceptions_are_still_needed() -> None:
    """An exception that its module or function no longer needs is struck off the list."""
    stale = [name for name in EXCEPTIONS if not (ROOT / name.split(":")[0]).exists()]

    assert stale == []
