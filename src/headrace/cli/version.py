"""`headrace version`: what is in use, for a bug report."""

import platform
import sqlite3
import sys

from headrace._internal.version import version
from headrace.cli.output import OutputOption, console, show_json
from headrace.client import get_client
from headrace.client.connect import describe_connection
from headrace.exceptions import HeadraceError
from headrace.schemas.admin import SERVER_VERSION


def show_version(*, omit_integrations: bool = False, output: OutputOption = None) -> None:  # noqa: ARG001
    """Say which versions of headrace, Python and the database are in use, and which API is talked to.

    Args:
        omit_integrations: accepted for Prefect's sake; headrace lists none.
        output: `json` prints the data as JSON.
    """
    facts = {
        "version": version(),
        "python": platform.python_version(),
        "platform": f"{sys.platform}/{platform.machine()}",
        "sqlite": sqlite3.sqlite_version,
        "api": describe_connection(),
        "api_version": _api_version(),
    }
    if output == "json":
        show_json(facts)
        return
    for name, value in facts.items():
        console().print(f"{name.replace('_', ' ').capitalize() + ':':16}{value}")


def _api_version() -> str:
    try:
        return get_client().call(SERVER_VERSION)
    except HeadraceError as error:
        return f"not known: {error}"
