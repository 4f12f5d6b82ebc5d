"""`python -m headrace.server`: a server by the settings in force, until SIGINT or SIGTERM."""

import sys

from headrace.exceptions import HeadraceError
from headrace.server.http.background import tell_ready
from headrace.server.http.process import logging_to_stderr, serve
from headrace.settings import get_settings


def main() -> int:
    """Serve, and return the exit code: 1 when the server cannot start, with the reason on standard error."""
    try:
        settings = get_settings()
        with logging_to_stderr(settings.server.logging_level):
            serve(settings, ready=tell_ready)
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
