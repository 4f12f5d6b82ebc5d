"""`python -m headrace.engine`: run the flow run that the environment names.

HEADRACE__FLOW_RUN_ID (or PREFECT__FLOW_RUN_ID, or the first argument) is its id, HEADRACE__FLOW_RUN_EPOCH the attempt
it was claimed for, if it was. Exit codes: 0 the engine came to an end, whatever the run's state; 1 it could not; and a
process that was asked to end by a signal ends by that signal.
"""

import logging
import os
import signal
import sys
from uuid import UUID

from headrace.engine.entry import run_and_end
from headrace.exceptions import HeadraceError, TerminationSignal


def main() -> int:
    """Run it; returns the exit code."""
    named = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HEADRACE__FLOW_RUN_ID")
    named = named or os.environ.get("PREFECT__FLOW_RUN_ID")
    epoch = os.environ.get("HEADRACE__FLOW_RUN_EPOCH")
    try:
        run_id = UUID(named or "")
    except ValueError:
        sys.stderr.write(f"Which flow run? Set HEADRACE__FLOW_RUN_ID to the id of one; it is {named!r} now.\n")
        return 1
    try:
        ended = run_and_end(run_id, int(epoch) if epoch else None)
    except HeadraceError as error:
        logging.getLogger("headrace.engine").error("Flow run %s could not be run: %s", run_id, error)
        return 1
    if isinstance(ended.error, TerminationSignal):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
