"""Steps of deployments: getting code to where it runs, and what a project builds and pushes before it is deployed."""

from headrace.deployments.errors import StepExecutionError
from headrace.deployments.steps.core import run_pull_steps, run_step, run_steps
from headrace.deployments.steps.pull import agit_clone, git_clone, pull_from_remote_storage, set_working_directory
from headrace.deployments.steps.utility import pip_install_requirements, run_shell_script

__all__ = [
    "StepExecutionError",
    "agit_clone",
    "git_clone",
    "pip_install_requirements",
    "pull_from_remote_storage",
    "run_pull_steps",
    "run_shell_script",
    "run_step",
    "run_steps",
    "set_working_directory",
]
