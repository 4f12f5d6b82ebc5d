"""The program that renews the leases of a process's runs, from outside that process.  # G6

It runs as a child (`lease.py` starts it) so that neither a busy interpreter lock nor a blocked event loop keeps a
lease from being renewed; and it must not outlive its parent, nor renew for one that is frozen.

- It reads commands from its standard input, a line each, words parted by blanks: `server URL`, `header NAME VALUE`,
  `trust FILE`, `insecure`, `database PATH`, `hold RUN EPOCH SECONDS`, `release RUN`. What is secret (a header) comes
  this way, never by the command line.  # S9
- It renews each lease every third of its length: over HTTP, or on the SQLite file when there is no server.
- The end of its input, or another parent than at first, means that the parent is dead: it ends.
- A parent that is stopped (SIGSTOP) is not renewed for.
- A run it may no longer renew is lost; one that is to be cancelled is cancelling. It writes `lost RUN` or
  `cancelling RUN` to its standard output and sends the parent SIGTERM, once for each. As the parent may be just about
  to release a run that has ended, a loss counts only when it is seen twice, a moment apart.

It is run with `-I -S` and may import the standard library alone, the heavier parts only when the first lease is due.
"""

import os
import select
import time
from collections.abc import Callable

if False:  # for type checkers only: `typing` would have to be imported
    import sqlite3
    import ssl

CONFIRM_AFTER = 1.0  # seconds between the first sign that a run is lost and the second look
CHECK_FROZEN = 0.5  # seconds between two looks at a parent that is stopped
SIGTERM = 15  # importing `signal` for its name would cost a third of the program's start


class Held:
    """A lease that is held."""

    def __init__(self, epoch: int, seconds: float, now: float) -> None:
        self.epoch, self.seconds = epoch, seconds
        self.due = now + seconds / 3
        self.doubted = False
        self.told = False  # that it is to be cancelled
        self.gone = False


class Renewer:
    """The leases of one process.

    Args:
        parent: its process id.
        tell: called with `lost` or `cancelling` and the run's id.
    """

    def __init__(self, parent: int, tell: Callable[[str, str], None]) -> None:
        self.parent, self.tell = parent, tell
        self.url, self.database, self.trust = "", "", ""
        self.insecure = False
        self.headers = {"Content-Type": "application/json"}
        self.held: dict[str, Held] = {}

    def obey(self, line: str, now: float) -> None:
        """Carry out one command; `now` is a monotonic time in seconds."""
        word, _, rest = line.partition(" ")
        if word == "hold":
            run, epoch, seconds = rest.split(" ")
            self.held[run] = Held(int(epoch), float(seconds), now)
        elif word == "release":
            self.held.pop(rest, None)
        elif word == "server":
            self.url, self.database = rest, ""
        elif word == "database":
            self.url, self.database = "", rest
        elif word == "header":
            name, _, value = rest.partition(" ")
            self.headers[name] = value
        elif word == "trust":
            self.trust = rest
        elif word == "insecure":
            self.insecure = True

    def pause(self, now: float) -> float | None:
        """Seconds until something is to be done; None when nothing is held."""
        dues = [lease.due for lease in self.held.values() if not lease.gone]
        return max(0.0, min(dues) - now) if dues else None

    def work(self, now: float) -> None:
        """Renew what is due."""
        due = {run: lease for run, lease in self.held.items() if lease.due <= now and not lease.gone}
        if not due:
            return
        if frozen(self.parent):
            for lease in due.values():
                lease.due = now + CHECK_FROZEN
            return
        try:
            lost, cancelling = self.renew_on_file(due) if self.database else self.renew_by_http(due)
        except Exception:  # noqa: BLE001  the server or the file may be away for a while; that crashes nothing
            for lease in due.values():
                lease.due = now + min(lease.seconds / 6, 5.0)
            return
        for run, lease in due.items():
            self.settle(run, lease, now, run in lost, run in cancelling)

    def settle(self, run: str, lease: Held, now: float, lost: bool, cancelling: bool) -> None:
        """Note how the renewal of one lease went."""
        if lost and not lease.doubted:
            lease.doubted, lease.due = True, now + CONFIRM_AFTER
            return
        lease.doubted, lease.due = False, now + lease.seconds / 3
        if lost:
            lease.gone = True
            self.tell("lost", run)
        elif cancelling and not lease.told:
            lease.told = True
            self.tell("cancelling", run)

    def renew_by_http(self, due: dict[str, Held]) -> tuple[set[str], set[str]]:
        """Ask the server; returns the runs that are lost and those to be cancelled."""
        import http.client
        import json
        import urllib.parse

        parts = urllib.parse.urlsplit(self.url)
        timeout = max(1.0, min(10.0, min(lease.seconds for lease in due.values()) / 3))
        host = (
            http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=self.tls())
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc, timeout=timeout)
        )
        body = json.dumps({"leases": [{"id": run, "epoch": lease.epoch} for run, lease in due.items()]})
        try:
            host.request("POST", parts.path.rstrip("/") + "/flow_runs/leases/renew", body, self.headers)
            answer = host.getresponse()
            content = answer.read()
        finally:
            host.close()
        if answer.status != 200:
            raise OSError(answer.status)
        renewed = json.loads(content)
        return set(renewed["lost"]), set(renewed["cancelling"])

    def tls(self) -> "ssl.SSLContext":
        """How to check the server's certificate."""
        import ssl

        context = ssl.create_default_context(cafile=self.trust or None)
        if self.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def renew_on_file(self, due: dict[str, Held]) -> tuple[set[str], set[str]]:
        """The same on the SQLite file, with the meaning of the server's operation and the encoding of its tables.

        Moments are microseconds since 1970, ids their 16 bytes.
        """
        import sqlite3

        lost, cancelling = set(), set()
        place = "file:" + "".join(f"%{ord(c):02x}" if c in "%?#" else c for c in self.database) + "?mode=rw"
        file = sqlite3.connect(place, uri=True, timeout=5.0, isolation_level=None)
        try:
            file.execute("begin immediate")
            for run, lease in due.items():
                state = renew_row(file, bytes.fromhex(run.replace("-", "")), lease.epoch, int(time.time() * 1_000_000))
                if state is None:
                    lost.add(run)
                elif state == "CANCELLING":
                    cancelling.add(run)
            file.execute("commit")
        finally:
            file.close()
        return lost, cancelling


def renew_row(file: "sqlite3.Connection", run: bytes, epoch: int, now: int) -> str | None:
    """Renew one run's lease; returns the type of its state, or None when the run is lost."""
    row = file.execute(
        "select state_type, lease_seconds, due from flow_run where id = ? and epoch = ? and lease_until is not null",
        (run, epoch),
    ).fetchone()
    if row is None:  # gone, claimed by another, or ended: a final state has no lease
        return None
    state, seconds, due = row
    until = now + int(seconds * 1_000_000)
    if state not in ("CANCELLING", "PAUSED"):  # those have deadlines of their own, however long their process lives
        due = until
    file.execute("update flow_run set lease_until = ?, due = ? where id = ?", (until, due, run))
    return str(state)


def frozen(process: int) -> bool:
    """Whether a process is stopped by a signal (by a debugger does not count)."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except FileNotFoundError:  # no such process, or a system without /proc
        return ask_ps(process) if not os.path.exists("/proc/self") else False


def ask_ps(process: int) -> bool:
    """The same where there is no /proc."""
    import subprocess

    try:
        asked = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.stdout.strip().startswith(b"T")


def main() -> None:
    """Serve the parent until it closes our input or dies."""
    parent = os.getppid()  # SIGINT and its like are blocked by it: it may take its time to end

    def tell(word: str, run: str) -> None:
        os.write(1, f"{word} {run}\n".encode())
        if os.getppid() == parent:
            os.kill(parent, SIGTERM)

    renewer = Renewer(parent, tell)
    rest = b""
    while os.getppid() == parent:
        pause = renewer.pause(time.monotonic())
        # a forked child of the parent may hold our input open: so look now and then whether the parent lives
        if select.select([0], [], [], 5.0 if pause is None else min(pause, 5.0))[0]:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                renewer.obey(line.decode(), time.monotonic())
        renewer.work(time.monotonic())


if __name__ == "__main__":
    main()
