"""Logging of runs: loggers that know their run, and where their lines go."""

from headrace.logging.loggers import LogEavesdropper, disable_run_logger, get_logger, get_run_logger

__all__ = ["LogEavesdropper", "disable_run_logger", "get_logger", "get_run_logger"]
