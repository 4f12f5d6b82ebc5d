"""The tree of commands, and what becomes of errors: one line that says what happened, never a traceback."""

import os

from cyclopts import App, CycloptsError

from headrace._internal.version import version
from headrace.cli.output import error_console, fail
from headrace.exceptions import ApiUnreachable, HeadraceError
from headrace.settings import InvalidSetting, get_settings

GROUPS = {
    "server": "headrace.cli.server:app",
    "worker": "headrace.cli.worker:app",
    "deploy": "headrace.cli.deploy:app",
    "deployment": "headrace.cli.deployments:app",
    "flow-run": "headrace.cli.flow_runs:app",
    "flow": "headrace.cli.flows:app",
    "work-pool": "headrace.cli.work_pools:app",
    "api-key": "headrace.cli.api_keys:app",
    "audit": "headrace.cli.audit:show_audit",
    "config": "headrace.cli.config:app",
    "profile": "headrace.cli.profiles:app",
    "version": "headrace.cli.version:show_version",
}
HELP = {
    "server": "Start, stop and look at the server.",
    "worker": "Start a worker that carries out runs.",
    "deploy": "Deploy flows from a headrace.yaml or prefect.yaml, or from an entrypoint.",
    "deployment": "Work with deployments.",
    "flow-run": "Work with flow runs.",
    "flow": "Work with flows.",
    "work-pool": "Work with work pools.",
    "api-key": "Give programs logins of their own, and take them back.",
    "audit": "Show who did, or was denied, what somebody may have to account for.",
    "config": "View and change settings.",
    "profile": "Keep several sets of settings and switch between them.",
    "version": "Say which versions are in use.",
}


def build() -> App:
    """The whole tree; the modules behind it are not imported yet."""
    app = App(
        name="headrace", help="Run, schedule and watch workflows.", version=version, version_flags=["--version", "-v"]
    )
    for name, path in GROUPS.items():
        app.command(path, name=name, help=HELP[name], alias=f"{name}s" if name in ("flow-run", "profile") else None)
    return app


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        build()(arguments, exit_on_error=False, print_error=True, console=None)
    except CycloptsError:
        return 2
    except ApiUnreachable as error:
        return fail(f"{error}\nIs the server running? Start one with: headrace server start")
    except (HeadraceError, InvalidSetting) as error:
        return fail(str(error))
    except KeyboardInterrupt:
        error_console().print("Interrupted.")
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        if get_settings().debug_mode:
            raise
        return fail(
            f"{type(error).__name__}: {error}\nThis is a fault in headrace. HEADRACE_DEBUG_MODE=true shows where."
        )
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
