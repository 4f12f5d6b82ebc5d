"""A process that writes rows to a store and says on standard output what was acknowledged.

Run as `python -m tests.support.writers URL NAME COUNT`: it says `ready`, waits for a line, writes COUNT flows named
`NAME-0`, `NAME-1`, ... and prints each name once its write has returned.
"""

import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from headrace._internal.ids import uuid7
from headrace.server.store import open_store
from headrace.server.store.tables import FLOW
from headrace.server.store.transaction import Tx

ROOT = Path(__file__).resolve().parents[2]


class Writer:
    """Such a process; several get ready side by side.

    Args:
        url: of the database.
        name: what its rows' names begin with.
        count: how many it writes.
    """

    def __init__(self, url: str, name: str, count: int) -> None:
        command = [sys.executable, "-m", "tests.support.writers", url, name, str(count)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )

    def wait_until_ready(self) -> None:
        """Wait until it has loaded what it needs."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        """Let it write."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def acknowledged(self, count: int) -> list[str]:
        """Wait for so many names and give them."""
        assert self.process.stdout is not None
        return [self.process.stdout.readline().strip() for _ in range(count)]

    def finish(self) -> tuple[list[str], str]:
        """Wait for its end: the names it said since it was last asked, and what it complained of."""
        # not `communicate`, which passes over what a `readline` before it has read ahead
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with self.process:
            said, complained = self.process.stdout.read(), self.process.stderr.read()
        return said.split("\n")[:-1], complained  # what stands behind the last line end was cut short by a kill

    def kill(self) -> list[str]:
        """End it by SIGKILL; the names it said since it was last asked."""
        self.process.kill()
        return self.finish()[0]


def write_rows(url: str, name: str, count: int, acknowledge: Callable[[str], None]) -> None:
    """Open the database, write so many rows one after the other, and tell of each once it is stored."""
    store = open_store(url)
    for number in range(count):
        written = f"{name}-{number}"

        def add(tx: Tx, written: str = written) -> None:
            row = {"id": uuid7(), "created": tx.now, "updated": tx.now, "name": written, "tags": [], "labels": {}}
            tx.execute(FLOW.insert(), row)

        store.write(add)
        acknowledge(written)
    store.close()


def _member(url: str, name: str, count: int, start: Barrier, faults: "SimpleQueue[str]") -> None:
    start.wait()
    try:
        write_rows(url, name, count, lambda _name: None)
    except BaseException as fault:
        faults.put(f"{name}: {fault!r}")


def crowd(url: str, names: Sequence[str], count: int) -> list[str]:
    """Have one process a name write so many rows, all beginning at the same moment; what they complained of.

    They are forked from a server that has loaded everything, since to start a hundred interpreters takes a minute.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    start, faults = context.Barrier(len(names)), context.SimpleQueue()
    members = [context.Process(target=_member, args=(url, name, count, start, faults)) for name in names]
    for member in members:
        member.start()
    complaints = []
    for member in members:
        member.join()
        complaints += [f"exit code {member.exitcode}"] if member.exitcode else []
    while not faults.empty():
        complaints.append(faults.get())
    return complaints


def main(url: str, name: str, count: int) -> None:
    """Write when told to, and say what was written."""
    print("ready", flush=True)
    sys.stdin.readline()
    write_rows(url, name, count, lambda written: print(written, flush=True))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
