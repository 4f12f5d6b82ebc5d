"""Setting up Python's logging for headrace: once, when the first run begins or a logger of a run is asked for.

- `headrace` (and `prefect`): lines from `logging.level` on go to the console, and no further up.
- `headrace.flow_runs` and `headrace.task_runs`: they also go to the API.
- the loggers named in `logging.extra_loggers`: what they say inside of a run goes to the API too.

A file at `logging.config_path` replaces all of that: it is read as `logging.config.dictConfig` wants it.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Any

from headrace.logging.handlers import APILogHandler, ConsoleHandler
from headrace.settings import get_settings

PROCESS_LOGGING_CONFIG: dict[str, Any] = {}
"""The configuration that was read from a file, if one was."""

ROOTS = ("headrace", "prefect")
RUNS = ("flow_runs", "task_runs")

_lock = threading.Lock()
_done = False


def ensure_logging_setup() -> None:
    """Set up logging if that was not done yet in this process. Costs nothing the second time."""
    if not _done:
        setup_logging()


def setup_logging(incremental: bool | None = None) -> dict[str, Any]:
    """Set up logging as the settings say.

    Args:
        incremental: leave handlers as they are, and set levels alone.

    Returns:
        The configuration that was read from a file; empty when there is none.
    """
    global _done
    with _lock:
        _done = True
        settings = get_settings().logging
        if os.path.exists(settings.config_path):
            return _configure_from(Path(settings.config_path), incremental)
        for root in ROOTS:
            logging.getLogger(root).setLevel(settings.level)
            if not incremental:
                _set_handlers(logging.getLogger(root), ConsoleHandler())
                for runs in RUNS:
                    _set_handlers(logging.getLogger(f"{root}.{runs}"), APILogHandler())
                logging.getLogger(root).propagate = False
        for name in settings.extra_loggers if not incremental else ():
            _set_handlers(logging.getLogger(name), APILogHandler())
        return {}


def _set_handlers(logger: logging.Logger, ours: logging.Handler) -> None:
    """Give a logger our handler, in place of an earlier one of the same kind; those of users stay."""
    for handler in [one for one in logger.handlers if type(one) is type(ours)]:
        logger.removeHandler(handler)
    logger.addHandler(ours)


def _configure_from(path: Path, incremental: bool | None) -> dict[str, Any]:
    import logging.config as standard  # it brings sockets and queues along

    config = load_logging_config(path)
    if incremental is not None:
        config["incremental"] = incremental
    standard.dictConfig(config)
    PROCESS_LOGGING_CONFIG.clear()
    PROCESS_LOGGING_CONFIG.update(config)
    return config


def load_logging_config(path: Path) -> dict[str, Any]:
    """Read a logging configuration. Variables of the environment may stand in it as `${NAME}`.

    Args:
        path: a file in YAML. Names of Prefect's handlers and formatters stand for headrace's.
    """
    import yaml

    text = os.path.expandvars(path.read_text()).replace("prefect.logging.", "headrace.logging.")
    config: dict[str, Any] = yaml.safe_load(text)
    return config
