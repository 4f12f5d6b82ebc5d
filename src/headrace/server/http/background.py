"""A server in the background: start one, find it again by its note, stop it.

Nothing heavy is imported here: the command line waits for the server's own imports, and need not pay them twice.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from headrace._internal.server_note import ServerNote, note_path, read_note
from headrace.exceptions import HeadraceError
from headrace.settings import settings_environment

LOG = "server.log"
READY = "HEADRACE__READY_FD"
"""Names, in the environment of a server in the background, the file descriptor on which it tells its URL."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class ServerDidNotStart(HeadraceError):
    """The server in the background ended before it could answer, or took too long."""


class ServerDidNotStop(HeadraceError):
    """The server in the background goes on although it was told to stop."""


def start_in_background(home: str, environment: dict[str, str] | None = None, *, seconds: float = START_SECONDS) -> str:
    """Start a server of `home` that goes on when this process ends, and wait until it answers.

    Args:
        home: its home folder; its messages go to `server.log` there.
        environment: further variables, such as `HEADRACE_SERVER_API_PORT`.
        seconds: how long to wait.

    Returns:
        The URL of its API.

    Raises:
        ServerDidNotStart: with the end of what it had to say.
    """
    log = Path(home) / LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    hears, tells = os.pipe()
    try:
        with log.open("ab") as out:
            begun = out.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace.server"],
                env=os.environ
                | settings_environment()
                | {"HEADRACE_HOME": home, READY: str(tells)}
                | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(tells,),
                start_new_session=True,
            )
    finally:
        os.close(tells)
    with os.fdopen(hears, "rb") as pipe:
        heard, _, _ = select.select([pipe], [], [], seconds)
        url = pipe.readline().decode().strip() if heard else ""
    if url:
        return url
    if process.poll() is None and not heard:
        process.kill()
    process.wait()
    said = log.read_bytes()[begun:].decode(errors="replace").strip().splitlines()[-12:]
    why = "\n".join(said) or f"It ended with exit code {process.returncode} and said nothing."
    raise ServerDidNotStart(f"The server did not start. The end of {log} says:\n{why}")


def tell_ready(url: str) -> None:
    """Called by the server itself: tell whoever started it that it answers at `url`."""
    tells = os.environ.pop(READY, None)
    if tells is not None:
        with contextlib.suppress(OSError, ValueError), os.fdopen(int(tells), "w") as pipe:
            pipe.write(url + "\n")


def running(home: str) -> ServerNote | None:
    """The note of the server of `home` if its process is there."""
    note = read_note(home)
    return note if note is not None and note.alive and _is_server(note) else None


def stop(home: str, *, seconds: float = STOP_SECONDS) -> ServerNote | None:
    """Stop the server of `home` and wait until it has ended.

    Args:
        home: its home folder.
        seconds: how long it may take to finish what is under way.

    Returns:
        The note of the server that was stopped; None when none ran.

    Raises:
        ServerDidNotStop: it is still there after that time.
    """
    note = running(home)
    if note is None:
        note_path(home).unlink(missing_ok=True)  # of a server that was killed
        return None
    os.kill(note.pid, signal.SIGTERM)
    if not _ended(note, seconds):
        raise ServerDidNotStop(f"The server (process {note.pid}) did not stop within {seconds:g} s. Try again later.")
    return note


def _ended(note: ServerNote, seconds: float) -> bool:
    """Wait for the end of a process that need not be our child."""
    if hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(note.pid)
        except ProcessLookupError:
            return True
        with contextlib.closing(os.fdopen(handle, "rb")) as ended:
            return bool(select.select([ended], [], [], seconds)[0])
    deadline = time.monotonic() + seconds
    while note.alive and time.monotonic() < deadline:  # no signal to wait for on this system
        time.sleep(0.05)
    return not note.alive


def _is_server(note: ServerNote) -> bool:
    """Whether the process of the note is still that server, and not a stranger that got its id after a kill."""
    command = Path(f"/proc/{note.pid}/cmdline")
    try:
        return not command.exists() or b"headrace" in command.read_bytes()
    except OSError:
        return False
