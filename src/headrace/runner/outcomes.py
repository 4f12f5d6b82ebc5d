"""What became of a run's process, in words for people."""

import signal

MEMORY = "often because the machine, or its container, had run out of memory"
CODES = {
    126: "its command could not be run",
    127: "its command was not found",
}


def ended_as(code: int, error: str | None = None) -> str:
    """How a process ended.

    Args:
        code: its exit code, or the number of the signal that ended it as a negative number.
        error: why it could not be started, or what else is known.

    Returns:
        A sentence without its full stop, such as "was killed by signal 9 (SIGKILL), often because ...".
    """
    if error is not None:
        return f"could not go on: {error}"
    if code < 0:
        return f"was ended by signal {-code} ({_signal_name(-code)}){_why(-code)}"
    if code > 128 and _signal_name(code - 128) != "unknown":  # how a shell reports a signal
        number = code - 128
        return f"ended with exit code {code}, as by signal {number} ({_signal_name(number)}){_why(number)}"
    return f"ended with exit code {code}" + (f": {CODES[code]}" if code in CODES else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _why(number: int) -> str:
    if number == getattr(signal, "SIGKILL", 9):
        return f", {MEMORY}"
    if number == signal.SIGSEGV:
        return ", a fault in a library that is not written in Python"
    return ""
