"""How much memory this process has had at most."""

import re
from pathlib import Path


def peak_mb() -> float:
    """The most resident memory of this process so far, in MB.

    Not from getrusage: its figure is inherited from the process that started this one (getrusage(2), "maximum
    resident set size" survives execve), so that it would tell of a large parent.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
