"""Cost of one task called, one mapped, and one empty subflow: the slope between few and many.

Prints one JSON object: milliseconds for each. Arguments: package, how many tasks, how many subflows.
"""

import importlib
import json
import sys
import time

from peak import peak_mb

package = importlib.import_module(sys.argv[1])
many, subflows = int(sys.argv[2]), int(sys.argv[3])


@package.task
def nothing(value: int) -> int:
    return value


@package.flow
def child() -> None:
    return None


@package.flow
def called(count: int) -> None:
    for value in range(count):
        nothing(value)


@package.flow
def mapped(count: int) -> None:
    nothing.map(range(count)).wait()


@package.flow
def nested(count: int) -> None:
    for _ in range(count):
        child()


def seconds(flow: object, count: int) -> float:
    """Wall time of a whole flow run, with everything recorded: the best of three, so that hiccups do not count."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        flow(count)
        times.append(time.perf_counter() - started)
    return min(times)


def slope(flow: object, count: int) -> float:
    """Milliseconds that one more costs."""
    seconds(flow, 1)
    few = max(count // 10, 1)
    return (seconds(flow, count) - seconds(flow, few)) / (count - few) * 1000


if __name__ == "__main__":
    figures = {
        "called": slope(called, many),
        "mapped": slope(mapped, many),
        "nested": slope(nested, subflows),
    }
    figures["peak_mb"] = peak_mb()
    print(json.dumps(figures))
