"""The command line. Each group of commands is a module of its own, imported when it is called."""

import sys


def main() -> None:
    """Run the command of `sys.argv`; the entry point of `headrace`.

    The version is answered first, before the libraries of the command line are loaded.
    """
    if sys.argv[1:] in (["--version"], ["-v"]):
        from headrace._internal.version import version

        print(version())
        return
    from headrace.cli.app import run

    sys.exit(run(sys.argv[1:]))
