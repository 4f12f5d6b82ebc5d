"""What the code of the server must not contain, found in its syntax trees: each rule holds for all modules.  # S20"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src" / "headrace"
SERVER = sorted((SOURCES / "server").rglob("*.py"))
CODE = [path for path in SERVER if "migrations" not in path.parts]

UNPICKLERS = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "jsonpickle"}
CLIENTS = {"requests", "httpx", "urllib3", "aiohttp", "urllib.request", "http.client", "ftplib", "smtplib", "apprise"}
OUTBOUND = {"headrace.server.http.outbound"}
"""The modules that may call other hosts: the one client that checks where it calls.  # S10"""
OWN_IMPORTS = {
    "operations/registry.py",  # the modules of operations, by our own list
    "services/runner.py",  # the modules of services, by what the package holds
    "store/schema.py",  # Alembic, only when it is needed
}
REVIEWED = {
    "events/log.py",  # statements that SQLAlchemy has compiled, kept as text for speed
    "events/retention.py",  # a PRAGMA takes no parameters: a number of ours
    "operations/tagged.py",  # the name of one of two tables of ours, in a statement kept as text for speed
    "store/schema.py",  # the name of Alembic's table, a constant
    "store/slices.py",  # DDL takes no parameters: names of ours, and moments
    "store/sqlite_file.py",  # a PRAGMA takes no parameters: a number of ours
}
"""Modules that hand text to a driver that is no constant in place, and why that is none of a caller's."""
PROCESSES = {"http/background.py"}
"""Where the server may start processes: itself, in the background."""


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported, wherever."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, by the name that is called: `text`, `re.compile`, `tx.execute`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def is_constant(node: ast.expr | None) -> bool:
    """Whether it is a literal, or the name of a constant of its module."""
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def found(rule: Callable[[str, ast.AST], Iterator[str]]) -> dict[str, list[str]]:
    """What a rule finds, by module."""
    broken = {}
    for path in CODE:
        name = str(path.relative_to(SOURCES / "server"))
        if places := list(rule(name, ast.parse(path.read_text()))):
            broken[name] = places
    return broken


def test_s8_sql_is_made_by_sqlalchemy_core() -> None:
    """`text()` and the driver's own `execute` take a constant: nothing is pasted into SQL."""
    raw = {"text", "sqlalchemy.text", "literal_column", "exec_driver_sql", "executescript", "TextClause"}

    def rule(path: str, tree: ast.AST) -> Iterator[str]:
        for name, call in calls(tree):
            first = call.args[0] if call.args else None
            if name.rpartition(".")[2] in raw and not is_constant(first) and path not in REVIEWED:
                yield ast.unparse(call)
            if name.endswith("execute") and isinstance(first, ast.JoinedStr | ast.BinOp) and path not in REVIEWED:
                yield ast.unparse(call)

    assert found(rule) == {}


def test_s8_like_is_escaped_in_one_place() -> None:
    """LIKE, ILIKE and their like are said in the one module that escapes what users look for."""
    unescaped = {"like", "ilike", "contains", "startswith", "endswith", "regexp_match", "match"}

    def rule(name: str, tree: ast.AST) -> Iterator[str]:
        for called, call in calls(tree):
            owner, _, method = called.rpartition(".")
            of_column = owner.startswith("column") or ".c." in owner or owner.endswith(".c")
            escapes = any(keyword.arg == "autoescape" for keyword in call.keywords)
            if method in unescaped and of_column and not escapes and name != "store/text_functions.py":
                yield ast.unparse(call)

    assert found(rule) == {}


def test_s8_sorts_are_enumerations() -> None:
    """No operation orders by a column that a caller names."""

    def rule(_: str, tree: ast.AST) -> Iterator[str]:
        for called, call in calls(tree):
            if called.endswith(".order_by") and any("body." in ast.unparse(argument) for argument in call.args):
                yield ast.unparse(call)

    assert found(rule) == {}


def test_s10_the_server_calls_nobody() -> None:
    """No module imports a client of other hosts, but the one that checks where it calls."""

    def rule(name: str, tree: ast.AST) -> Iterator[str]:
        module = "headrace.server." + name.removesuffix(".py").replace("/", ".")
        return (
            one for one in imports(tree) if module not in OUTBOUND and (one in CLIENTS or one.split(".")[0] in CLIENTS)
        )

    assert found(rule) == {}


def test_s11_nothing_of_users_is_executed() -> None:
    """No unpickling, no evaluating, no import of a name that is not ours, no YAML, no archives, no shell."""

    def rule(name: str, tree: ast.AST) -> Iterator[str]:
        yield from (
            one for one in imports(tree) if one.split(".")[0] in UNPICKLERS | {"yaml", "tarfile", "zipfile", "runpy"}
        )
        for called, call in calls(tree):
            if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
                yield ast.unparse(call)
            if called.endswith("import_module") and name not in OWN_IMPORTS:
                yield ast.unparse(call)
            if called.startswith("subprocess.") and name not in PROCESSES:
                yield ast.unparse(call)
            if any(keyword.arg == "shell" for keyword in call.keywords):
                yield ast.unparse(call)

    assert found(rule) == {}


def test_s11_no_user_module_is_imported_by_the_server() -> None:
    """The server loads none of the modules that load, run or unpickle users' code."""
    theirs = {"headrace.engine", "headrace.flows", "headrace.tasks", "headrace.results", "headrace.serializers"}
    theirs |= {"headrace.runner", "headrace.workers", "headrace.deployments", "headrace.filesystems", "headrace.client"}

    def rule(_: str, tree: ast.AST) -> Iterator[str]:
        return (one for one in imports(tree) if any(one == their or one.startswith(their + ".") for their in theirs))

    assert found(rule) == {}


def test_s7_regular_expressions_are_ours() -> None:
    """No pattern of a caller is handed to Python's engine, which some patterns keep busy for ever."""
    takes_pattern = {"compile", "match", "search", "fullmatch", "sub", "findall", "finditer", "split"}

    def rule(_: str, tree: ast.AST) -> Iterator[str]:
        for called, call in calls(tree):
            owner, _, function = called.rpartition(".")
            if owner == "re" and function in takes_pattern and not isinstance(call.args[0], ast.Constant):
                yield ast.unparse(call)

    assert found(rule) == {}


@pytest.mark.parametrize(
    "line",
    [
        "tx.execute(text(f'select {x}'))",
        "connection.exec_driver_sql('select ' + x)",
        "subprocess.run(x, shell=True)",
        "eval(x)",
    ],
)
def test_the_rules_see_what_they_look_for(line: str) -> None:
    """The syntax trees are read as the rules expect."""
    [(name, call)] = [(name, call) for name, call in calls(ast.parse(line)) if "tx.execute" not in name]

    assert name
    assert not call.args or not isinstance(call.args[0], ast.Constant)
