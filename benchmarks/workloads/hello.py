"""The smallest flow of tasks. The package is named by the first argument."""

import importlib
import sys

package = importlib.import_module(sys.argv[1])


@package.task
def say(name: str) -> str:
    return f"hello {name}"


@package.flow
def hello() -> list[str]:
    return [say("one"), say("two"), say("three")]


if __name__ == "__main__":
    hello()
