"""`headrace api-key`."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from headrace.cli.inputs import read_span
from headrace.cli.output import OutputOption, ago, console, done, fail, show_json, show_table
from headrace.client import get_client
from headrace.schemas.api_keys import CREATE_API_KEY, DELETE_API_KEY, READ_API_KEYS, ApiKeyCreate

app = App(name="api-key", help="Give programs logins of their own, and take them back.")


@app.command(name="create")
def create_api_key(
    name: str,
    /,
    *,
    allow: Annotated[list[str], Parameter(name=["--allow", "-a"], negative="")],
    work_pool: Annotated[str | None, Parameter(name=["--work-pool", "-p"])] = None,
    expires_in: str | None = None,
    output: OutputOption = None,
) -> None:
    """Make an API key and show it, this once.

    Args:
        name: what it is for.
        allow: `read`, `write`, `admin`, or one area as in `runs:write`; may be given several times.
        work_pool: the only work pool whose things it may touch.
        expires_in: how long it is good, such as `12h` or `90d`; for ever when absent.
        output: `json` prints the data as JSON.
    """
    expires = datetime.now(UTC) + read_span(expires_in, "--expires-in") if expires_in else None
    body = ApiKeyCreate(name=name, permissions=allow, work_pool=work_pool, expires=expires)
    made = get_client().call(CREATE_API_KEY, body=body)
    if output == "json":
        show_json(made)
        return
    done(f"Made API key '{name}'. Keep it now, it is not shown again:")
    console().print(made.key, soft_wrap=True)


@app.command(name="ls")
def list_api_keys(*, output: OutputOption = None) -> None:
    """List API keys, without the keys themselves.

    Args:
        output: `json` prints the data as JSON.
    """
    keys = get_client().call(READ_API_KEYS)
    if output == "json":
        show_json(keys)
        return
    rows = [
        (one.name, ", ".join(one.permissions), one.work_pool or "all", ago(one.expires) or "never", ago(one.last_used))
        for one in keys
    ]
    show_table("API keys", ("Name", "May", "Work pool", "Expires", "Last used"), rows)


@app.command(name="revoke")
def revoke_api_key(name: str, /) -> int | None:
    """Revoke an API key: within five seconds no server accepts it.

    Args:
        name: its name.
    """
    client = get_client()
    found = [one.id for one in client.call(READ_API_KEYS) if one.name == name]
    if not found:
        return fail(f"There is no API key '{name}'.")
    client.call(DELETE_API_KEY, id=found[0])
    done(f"Revoked API key '{name}'.")
    return None
