"""Many mapped tasks in one flow, recorded. Prints seconds and peak memory as JSON. Arguments: package, how many."""

import importlib
import json
import sys
import time

from peak import peak_mb

package = importlib.import_module(sys.argv[1])


@package.task
def double(value: int) -> int:
    return 2 * value


@package.flow
def many(count: int) -> int:
    return sum(double.map(range(count)).result())


if __name__ == "__main__":
    count = int(sys.argv[2])
    started = time.perf_counter()
    assert many(count) == count * (count - 1)
    taken = time.perf_counter() - started
    print(json.dumps({"seconds": taken, "peak_mb": peak_mb()}))
