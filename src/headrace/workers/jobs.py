"""From a work pool's template and job variables to the job of one run.

Variables are taken from the defaults of the pool's template, then from the deployment, then from the run, the later
ones winning; `env` is merged name by name. A key with dots, as `env.LEVEL`, stands for the value inside. Then the
placeholders of the template's `job_configuration` are filled; one without a value is left out.
"""

import shlex
import sys
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from headrace.deployments.templating import fill
from headrace.exceptions import InfrastructureError
from headrace.runner.launcher import ENGINE

ENGINES = ("prefect.engine", "headrace.engine")
FRESH_INTERPRETER = ("PYTHON", "LD_", "DYLD_")
"""Beginnings of variables that only have an effect before an interpreter starts."""


class ProcessJob(Struct, kw_only=True):
    """The job of a process worker.

    Args:
        command: the command line that carries out the run; None for the engine of this interpreter.
        env: variables of the environment; None takes one away.
        labels: labels of the run's infrastructure.
        name: a name for the process, for people.
        stream_output: show what the process prints.
        working_dir: its folder.
    """

    command: str | None = None
    env: dict[str, str | None] = {}
    labels: dict[str, str] = {}
    name: str | None = None
    stream_output: bool = True
    working_dir: str | None = None

    def argv(self, *, warm: bool) -> list[str] | None:
        """The program and its arguments; None to fork the template.

        Args:
            warm: forking is possible here.
        """
        if self.command:
            words = shlex.split(self.command)
            if not is_engine(words):
                return words
            if words[0] != "python" and words[0] != sys.executable:
                return words
        needs_fresh = self.working_dir is not None or any(name.startswith(FRESH_INTERPRETER) for name in self.env)
        return list(ENGINE) if needs_fresh or not warm else None


def is_engine(words: list[str]) -> bool:
    """Whether a command is the one that runs the engine anyway."""
    return len(words) == 3 and words[1] == "-m" and words[2] in ENGINES


def merged(template: Mapping[str, Any], *layers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of all variables.

    Args:
        template: the pool's base job template.
        layers: job variables of the deployment, of the run, ...; later ones win.
    """
    properties = (template.get("variables") or {}).get("properties") or {}
    values = {name: schema["default"] for name, schema in properties.items() if schema.get("default") is not None}
    for layer in layers:
        for name, value in _unfolded(layer or {}).items():
            both = name == "env" and isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
            values[name] = {**values[name], **value} if both else value
    return values


def _unfolded(layer: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in layer.items():
        *heads, last = name.split(".")
        place = values
        for head in heads:
            inner = place.get(head)
            place[head] = dict(inner) if isinstance(inner, Mapping) else {}
            place = place[head]
        if isinstance(value, Mapping) and isinstance(place.get(last), Mapping):
            place[last] = {**place[last], **value}
        else:
            place[last] = value
    return values


def process_job(
    template: Mapping[str, Any], *layers: Mapping[str, Any] | None, context: Mapping[str, Any]
) -> ProcessJob:
    """The job of a run.

    Args:
        template: the pool's base job template.
        layers: job variables of the deployment and of the run.
        context: what `{{ ctx.flow_run.name }}` and the like in the variable `name` stand for.

    Raises:
        InfrastructureError: a variable has not the type it must have, or refers to what cannot be read.
    """
    values = {name: value for name, value in merged(template, *layers).items() if value is not None}
    if "name" in values:
        values["name"] = fill(values["name"], {"ctx": context}, keep_unknown=True, references=False)
    try:
        configuration = fill(
            template.get("job_configuration") or {name: f"{{{{ {name} }}}}" for name in values},
            values,
            references=False,
        )
        configuration = fill(configuration, {}, keep_unknown=True)  # once: what a block says is no template
        job = msgspec.convert(configuration, ProcessJob, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise InfrastructureError(f"its job variables are not right: {error}") from error
    return job
