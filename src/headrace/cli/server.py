"""`headrace server`."""

import time
from contextlib import closing
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.text import Text

from headrace.cli.output import OutputOption, console, done, fail, show_json
from headrace.settings import database_url, get_settings, temporary_settings

app = App(name="server", help="Start, stop and look at the server.")


@app.command(name="start")
def start(
    *,
    host: str | None = None,
    port: int | None = None,
    keep_alive_timeout: int | None = None,
    log_level: str | None = None,
    scheduler: bool | None = None,
    late_runs: bool | None = None,
    ui: bool | None = None,
    no_services: Annotated[bool, Parameter(negative="")] = False,
    background: Annotated[bool, Parameter(name=["--background", "-b"])] = False,
    workers: int | None = None,
) -> int | None:
    """Start the server: the API and its services.

    Args:
        host: the address to listen on; 127.0.0.1 unless set.
        port: the port; 4200 unless set, 0 for a free one.
        keep_alive_timeout: seconds an idle connection is kept.
        log_level: how much the server says.
        scheduler: whether this server makes the runs of schedules.
        late_runs: whether this server marks late runs.
        ui: whether this server shows the web pages.
        no_services: answer calls only.
        background: return when it is ready; `headrace server stop` stops it.
        workers: processes that answer calls, on as many cores; 1 unless set.
    """
    said: dict[str, Any] = {
        "server.api.host": host,
        "server.api.port": port,
        "server.api.keepalive_timeout": keep_alive_timeout,
        "server.api.workers": workers,
        "server.logging_level": log_level.upper() if log_level else None,
        "server.services.scheduler.enabled": scheduler,
        "server.services.late_runs.enabled": late_runs,
        "server.ui.enabled": ui,
    }
    with temporary_settings({path: value for path, value in said.items() if value is not None}) as settings:
        if background:
            if no_services:
                return fail("A server without services cannot run in the background; leave out one of the two.")
            from headrace.server.http.background import start_in_background

            _banner(start_in_background(settings.home))
            done("It runs in the background. Stop it with: headrace server stop")
            return None
        from headrace.server.http.process import logging_to_stderr, serve

        with logging_to_stderr(settings.server.logging_level):
            serve(settings, services=not no_services, ready=_banner)
    return None


def _banner(url: str) -> None:
    root = url.removesuffix("/api")
    console().print(Text.assemble(("headrace", "bold"), " is ready.\n"))
    console().print(f"  Look:      {root}\n  API:       {url}\n  API docs:  {root}/docs\n", soft_wrap=True)
    console().print(f"  Elsewhere: headrace config set HEADRACE_API_URL={url}\n", soft_wrap=True)


@app.command(name="stop")
def stop() -> int | None:
    """Stop the server of this home."""
    from headrace.server.http.background import stop as stop_server

    note = stop_server(get_settings().home)
    if note is None:
        return fail("No server of this home is running.")
    done(f"Stopped the server at {note.url} (process {note.pid}).")
    return None


@app.command(name="status")
def status(
    *,
    wait: bool = False,
    timeout: Annotated[float, Parameter(name=["--timeout", "-t"])] = 0.0,
    output: OutputOption = None,
) -> int | None:
    """Say whether the server answers.

    Args:
        wait: wait until it does.
        timeout: seconds to wait at most; 0 waits for ever.
        output: `json` prints the data as JSON.
    """
    from headrace.server.http.background import running

    deadline = time.monotonic() + timeout if timeout else None
    note = running(get_settings().home)
    while wait and note is None and (deadline is None or time.monotonic() < deadline):
        time.sleep(0.1)
        note = running(get_settings().home)
    facts = {"running": note is not None, "url": note and note.url, "pid": note and note.pid}
    if output == "json":
        show_json(facts)
    elif note:
        done(f"The server runs at {note.url} (process {note.pid}, for {time.time() - note.started:.0f} s).")
    else:
        fail("No server of this home is running. Start one with: headrace server start")
    return None if note else 1


@app.command(name="rotate-key")
def rotate_key() -> int | None:
    """Encrypt the secrets of all blocks with a new key; a running server goes on meanwhile.

    The key is kept in `encryption.keys` of the home. Where HEADRACE_SERVER_ENCRYPTION_KEY gives the keys, put a new one
    before the old one, restart the servers, and call this: it encrypts with the first.
    """
    from headrace.server.operations.block_vault import rotate
    from headrace.server.store import open_store

    settings = get_settings()
    with closing(open_store(database_url(settings))) as store:
        count, failed = rotate(store)
    done(f"Encrypted {count} blocks with the key that is now the first.")
    if failed:
        return fail(f"These blocks cannot be read, and were left as they are: {', '.join(map(str, failed))}.")
    return None
