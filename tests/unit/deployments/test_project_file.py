"""Reading headrace.yaml: its shape, and errors that name file and line."""

from pathlib import Path

import pytest

from headrace.deployments.errors import DeploymentError
from headrace.deployments.project_file import ProjectFile, find_file


def write(folder: Path, text: str, name: str = "headrace.yaml") -> ProjectFile:
    """A deployment file with this text."""
    path = folder / name
    path.write_text(text)
    return ProjectFile(path)


def test_our_own_file_goes_before_prefects(tmp_path: Path) -> None:
    """Either name is found; without one the error names both."""
    with pytest.raises(DeploymentError, match=r"no headrace\.yaml or prefect\.yaml"):
        find_file(tmp_path)
    (tmp_path / "prefect.yaml").touch()
    assert find_file(tmp_path).name == "prefect.yaml"
    (tmp_path / "headrace.yaml").touch()
    assert find_file(tmp_path).name == "headrace.yaml"


def test_a_deployment_is_read(tmp_path: Path) -> None:
    """Unknown keys are ignored; each item knows its place."""
    file = write(tmp_path, "name: x\nunknown: 1\ndeployments:\n  - name: a\n    work_pool: {name: p}\n  - name: b\n")
    (where, raw), (other, _) = file.deployments()
    item = file.read_item(where, raw)

    assert item.name == "a"
    assert item.work_pool is not None
    assert item.work_pool.name == "p"
    assert file.place(where).endswith("headrace.yaml, line 4")
    assert file.place(other).endswith("line 6")
    assert file.place(f"{where}.work_pool.name").endswith("line 5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("deployments: [", r"headrace\.yaml, line 1, column \d+: this is not valid YAML"),
        ("- a\n- b\n", "has no deployments"),
        ("deployments: x\n", "line 1: `deployments` is a list"),
        ("deployments:\n  - name: a\n    parameters: 5\n", r"line 3: parameters is not right: Expected `object"),
        ("deployments:\n  - name: a\n    paused: 5\n", "line 3: paused is not right"),
    ],
)
def test_errors_name_the_place(tmp_path: Path, text: str, message: str) -> None:
    """File and line, and what is wanted there."""

    def read() -> None:
        file = write(tmp_path, text)
        for where, raw in file.deployments():
            file.read_item(where, raw)

    with pytest.raises(DeploymentError, match=message):
        read()


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(DeploymentError, match=r"nothing\.yaml cannot be read"):
        ProjectFile(tmp_path / "nothing.yaml")
