"""The note a running server leaves in its home folder, so that others on this machine find it: `server.json`.

Whoever reads it must not trust it: a server that was killed cannot take it away.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "server.json"


@dataclass(frozen=True, slots=True)
class ServerNote:
    """Where a server is.

    Args:
        url: of its API, up to and with `/api`.
        pid: its process.
        started: when it was started, in seconds since 1970.
    """

    url: str
    pid: int
    started: float

    @property
    def alive(self) -> bool:
        """Whether a process of that id is there. It may be another one by now."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def note_path(home: str) -> Path:
    """Where the note of the home folder `home` lies."""
    return Path(home) / FILE


def read_note(home: str) -> ServerNote | None:
    """Read the note; None when there is none or it makes no sense."""
    try:
        said = json.loads(note_path(home).read_text())
        return ServerNote(str(said["url"]), int(said["pid"]), float(said.get("started", 0.0)))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_note(home: str, note: ServerNote) -> None:
    """Leave a note that only this user can read; a reader sees the old one or the new one, never a half."""
    path = note_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{FILE}.{note.pid}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(note), file)
    draft.replace(path)


def remove_note(home: str, pid: int) -> None:
    """Take the note away if it is that of process `pid`."""
    note = read_note(home)
    if note is not None and note.pid == pid:
        note_path(home).unlink(missing_ok=True)
