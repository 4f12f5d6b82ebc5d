"""Reading headrace.yaml or prefect.yaml: its shape, and where in the file each part stands.

Unknown keys are ignored, as Prefect does; a wrong value is an error that names the file, the line and the key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from headrace.deployments.errors import DeploymentError

FILE_NAMES = ("headrace.yaml", "prefect.yaml")

Steps = list[dict[str, Any] | None] | dict[str, Any] | None


class WorkPoolItem(Struct):
    """`work_pool` of a deployment."""

    name: str | None = None
    work_queue_name: str | None = None
    job_variables: dict[str, Any] | None = None


class ConcurrencyLimitItem(Struct):
    """`concurrency_limit` of a deployment, in its long form."""

    limit: int | None = None
    collision_strategy: str | None = None
    grace_period_seconds: int | None = None


class DeploymentItem(Struct):
    """One of the file's deployments, after its placeholders are filled."""

    name: str | None = None
    flow_name: str | None = None
    entrypoint: str | None = None
    description: str | None = None
    version: str | None = None
    version_type: str | None = None
    tags: str | list[str] | None = None
    parameters: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    schedules: list[dict[str, Any]] | None = None
    paused: bool | None = None
    concurrency_limit: int | ConcurrencyLimitItem | None = None
    enforce_parameter_schema: bool | None = None
    work_pool: WorkPoolItem | None = None
    triggers: list[dict[str, Any]] | None = None
    sla: list[dict[str, Any]] | dict[str, Any] | None = None
    build: Steps = None
    push: Steps = None
    pull: Steps = None


class ProjectFile:
    """A deployment file: its content, and the line of each part.

    Args:
        path: the file.

    Raises:
        DeploymentError: there is no such file, or it is not a mapping in valid YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DeploymentError(f"{path} cannot be read: {error.strerror}.") from None
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            content = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DeploymentError(_yaml_error(path, error)) from None
        if not isinstance(content, Mapping):
            raise DeploymentError(f"{path} has no deployments; it begins with 'deployments:' and a list.")
        self.content: Mapping[str, Any] = content
        self._lines: dict[str, int] = {}
        if node is not None:
            _note_lines(node, "$", self._lines)

    @property
    def folder(self) -> Path:
        """The folder that entrypoints in the file are relative to."""
        return self.path.resolve().parent

    def deployments(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Each deployment as written, with its path in the file.

        Raises:
            DeploymentError: `deployments` is not a list of mappings.
        """
        items = self.content.get("deployments") or []
        if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
            raise DeploymentError(
                f"{self.place('$.deployments')}: `deployments` is a list, each with name and entrypoint."
            )
        return [(f"$.deployments[{index}]", item) for index, item in enumerate(items)]

    def read_item(self, where: str, content: Any) -> DeploymentItem:
        """Check a deployment whose placeholders are filled.

        Args:
            where: its path in the file.
            content: the deployment.

        Raises:
            DeploymentError: a value has not the type it must have.
        """
        try:
            return msgspec.convert(content, DeploymentItem)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `")
            path = where + path.rstrip("`").removeprefix("$")
            key = path.removeprefix(where).lstrip(".") or "the deployment"
            raise DeploymentError(f"{self.place(path)}: {key} is not right: {message}.") from None

    def place(self, path: str) -> str:
        """`file, line n` of a path such as `$.deployments[0].schedules[1].cron`, or of what it stands in."""
        while path and path not in self._lines:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line = self._lines.get(path)
        return f"{self.path}, line {line}" if line else str(self.path)


def _yaml_error(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
    return f"{place}: this is not valid YAML: {problem}."


def _note_lines(node: yaml.Node, path: str, lines: dict[str, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                below = f"{path}.{key.value}"
                lines[below] = key.start_mark.line + 1
                _note_lines(value, below, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, f"{path}[{index}]", lines)


def find_file(folder: Path | None = None) -> Path:
    """The deployment file of a folder: headrace.yaml, or prefect.yaml.

    Raises:
        DeploymentError: there is neither.
    """
    folder = folder or Path.cwd()
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise DeploymentError(f"There is no {' or '.join(FILE_NAMES)} in {folder}; name the file with --file.")
