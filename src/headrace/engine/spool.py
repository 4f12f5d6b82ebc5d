"""The spool: what a process recorded and the server has not acknowledged yet, on disk.  # G11

Each process appends to a file of its own, `<home>/spool/<process>-<time>.jsonl`, and holds a lock on it as long as it
lives. The first line says for which API the file is; each further line is one entry (see `Entry`). A line counts once
its newline is there, so an entry torn by a kill is no entry. When all of it is acknowledged the file is emptied, and
removed when the process ends.

A file whose lock is free belongs to a dead process. `leftovers` takes the lock of each such file, so of two processes
that look at the same time one delivers it and the other passes on. Entries may be delivered twice (the process died
between the answer and the emptying): the ids in them make that harmless.

Only the writer thread of the recorder appends and only its sender reads; both agree on positions that never go back,
even when the file is emptied.
"""

import os
import threading
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import msgspec
from msgspec import Struct

from headrace._internal.file_locks import try_lock
from headrace.schemas.flow_runs import SetFlowRunState
from headrace.schemas.recording import Records

FOLDER = "spool"
_CHUNK = 1 << 16
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends


class ProposedState(Struct, kw_only=True):
    """A state of a flow run that could not be proposed when it was reached."""

    id: UUID
    body: SetFlowRunState


class Header(Struct, kw_only=True):
    """The first line of a spool file."""

    destination: str
    process: int
    version: int = 1


class Entry(Struct, kw_only=True, omit_defaults=True):
    """One line of a spool file: exactly one of its fields is set."""

    records: msgspec.Raw = msgspec.Raw()
    flow_run_state: ProposedState | None = None


_encode = msgspec.json.encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_entry = msgspec.json.Decoder(Entry).decode


def records_line(records: bytes) -> bytes:
    """The line for a batch of records that is encoded already."""
    return b'{"records":' + records + b"}\n"


def state_line(proposed: ProposedState) -> bytes:
    """The line for the state of a flow run."""
    return _encode(Entry(flow_run_state=proposed)) + b"\n"


def read_line(line: bytes) -> Records | msgspec.Raw | ProposedState | None:
    """What a line of a spool file holds: records still encoded, a proposed state, or None when it is damaged."""
    try:
        entry = _decode_entry(line)
    except msgspec.DecodeError:
        return None
    return entry.flow_run_state or entry.records or None


def decode_records(raw: msgspec.Raw) -> Records:
    """The batch in a line.

    Raises:
        msgspec.ValidationError: it is no batch of records.
    """
    return msgspec.json.decode(raw, type=Records)  # few need it: a decoder made ahead costs every start 18 ms


class Spool:
    """The spool file of this process; it is made when the first entry comes.

    Args:
        folder: where spool files lie.
        destination: name of the API the entries are for; only a client of the same API delivers them later.
    """

    def __init__(self, folder: Path, destination: str) -> None:
        self._folder, self._destination = folder, destination
        self._lock = threading.Lock()
        self._descriptor = -1
        self._path: Path | None = None
        self._start = 0  # bytes of the header
        self._shift = 0  # what to add to a place in the file to get a position
        self.written = 0
        self.acknowledged = 0

    @property
    def waiting(self) -> int:
        """Bytes that are written and not acknowledged."""
        return self.written - self.acknowledged

    def append(self, line: bytes) -> int:
        """Write one line and return the position behind it.

        Raises:
            OSError: the disk is full or the folder cannot be written.
        """
        with self._lock:
            if self._descriptor < 0:
                self._open()
            place = self.written - self._shift
            try:
                _write_all(self._descriptor, line)
            except OSError:
                os.ftruncate(self._descriptor, place)
                raise
            self.written += len(line)
            return self.written

    def next_line(self) -> bytes | None:
        """The first line that is not acknowledged; None when there is none."""
        with self._lock:
            if self.acknowledged == self.written:
                return None
            return _line_at(self._descriptor, self.acknowledged - self._shift)

    def acknowledge(self, line: bytes) -> int:
        """Forget `line`, which was the next one, and return the position behind it."""
        with self._lock:
            self.acknowledged += len(line)
            if self.acknowledged == self.written and self._descriptor >= 0:
                os.ftruncate(self._descriptor, self._start)
                self._shift = self.written - self._start
            return self.acknowledged

    def close(self) -> None:
        """Let go of the file; it is removed when all of it is acknowledged, else left for a later process."""
        with self._lock:
            if self._descriptor >= 0:
                if self.acknowledged == self.written and self._path is not None:
                    with suppress(OSError):
                        self._path.unlink()
                self.abandon()

    def abandon(self) -> None:
        """Close the file without touching it: for a forked child, whose parent goes on with it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        header = _encode(Header(destination=self._destination, process=os.getpid())) + b"\n"
        while True:
            path = self._folder / f"{os.getpid()}-{time.time_ns():x}.jsonl"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | _BINARY, 0o600)
            # a deliverer may have taken the file for a dead process's before the lock was on it: then make another
            if try_lock(descriptor) and _same_file(path, descriptor):
                break
            os.close(descriptor)
        _write_all(descriptor, header)
        self._descriptor, self._path, self._start = descriptor, path, len(header)
        self._shift = self.written - self._start


@contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """The open and locked file, or None when it is gone or its process lives."""
    try:
        descriptor = os.open(path, os.O_RDWR | _BINARY)
    except FileNotFoundError:
        yield None
        return
    try:
        # between opening and locking, another process may have delivered and removed it
        yield descriptor if try_lock(descriptor) and _same_file(path, descriptor) else None
    finally:
        os.close(descriptor)


def has_files(folder: Path) -> bool:
    """Whether there are spool files at all; a cheap look."""
    return next(folder.glob("*.jsonl"), None) is not None


def leftovers(folder: Path, destinations: Container[str]) -> Iterator[Iterator[bytes]]:
    """The lines of each file that a dead process left for one of `destinations`, the oldest file first.

    A file is removed when all its lines were taken; an exception in the middle leaves it as it is.
    """
    found = sorted(folder.glob("*.jsonl"), key=lambda path: path.name.partition("-")[2].rjust(32, "0"))
    for path in found:
        with _held(path) as descriptor:
            if descriptor is None:
                continue
            header = _line_at(descriptor, 0)
            if header is None:  # its process died while it made the file
                path.unlink(missing_ok=True)
            elif _destination_of(header) in destinations:
                yield _lines(descriptor, len(header))
                path.unlink(missing_ok=True)


def _lines(descriptor: int, place: int) -> Iterator[bytes]:
    while (line := _line_at(descriptor, place)) is not None:
        yield line
        place += len(line)


def _destination_of(header: bytes) -> str | None:
    try:
        return _decode_header(header).destination
    except msgspec.DecodeError:
        return None


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _line_at(descriptor: int, place: int) -> bytes | None:
    """The line that begins at `place`, with its newline; None when it is torn or there is none."""
    parts: list[bytes] = []
    while True:
        chunk = _read_at(descriptor, _CHUNK, place)
        end = chunk.find(b"\n") + 1
        if end or not chunk:
            return b"".join((*parts, chunk[:end])) if end else None
        parts.append(chunk)
        place += len(chunk)


def _read_at(descriptor: int, size: int, place: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, place)
    os.lseek(descriptor, place, os.SEEK_SET)  # O_APPEND: writing does not care where reading left off
    return os.read(descriptor, size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
