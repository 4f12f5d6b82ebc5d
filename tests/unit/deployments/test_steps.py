"""Steps: functions named in a file, with inputs and outputs."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.deployments.errors import StepExecutionError
from headrace.deployments.git import environment_of
from headrace.deployments.steps import run_pull_steps, run_steps

SHELL = "prefect.deployments.steps.run_shell_script"


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_outputs_reach_later_steps() -> None:
    """Flat and by the step's id; Prefect's names mean our steps."""
    steps = [
        {SHELL: {"id": "first", "script": "echo one", "stream_output": False}},
        {SHELL: {"id": "second", "script": "echo {{ first.stdout }}+{{ stdout }}", "stream_output": False}},
    ]

    assert run_steps(steps)["second"]["stdout"] == "one+one"


def test_each_line_of_a_script_is_a_command() -> None:
    """Without a shell: a semicolon is just an argument; with one it is the shell's."""
    script = "echo a; echo b\n# a comment\necho c"

    assert run_steps([{SHELL: {"script": script}}])["stdout"] == "c"
    assert run_steps([{SHELL: {"script": "echo a; echo b", "shell": True}}])["stdout"] == "a\nb"
    assert run_steps([{SHELL: {"script": "echo a; echo b"}}])["stdout"] == "a; echo b"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({SHELL: {"script": "sh -c 'echo bad >&2; exit 3'"}}, "exit code 3: bad"),
        ({SHELL: {"script": "no-such-command"}}, "cannot be run"),
        ({"no.such.step": {}}, r"no step 'no\.such\.step'"),
        ({SHELL: {}, "other": {}}, "exactly one key"),
        ({SHELL: ["x"]}, "names with values"),
        ({"prefect.deployments.steps.set_working_directory": {"directory": "nowhere"}}, "not here"),
    ],
)
def test_a_failing_step_says_which_and_why(step: dict[str, object], message: str) -> None:
    """The error names the step."""
    with pytest.raises(StepExecutionError, match=message):
        run_steps([step])


def test_pull_steps_end_in_the_folder_they_name(tmp_path: Path) -> None:
    """That is where the entrypoint is looked for."""
    (tmp_path / "code").mkdir()
    run_pull_steps([{"prefect.deployments.steps.set_working_directory": {"directory": "code"}}, None])

    assert Path.cwd() == tmp_path / "code"


def test_a_repository_is_cloned_and_updated(tmp_path: Path) -> None:
    """The second time the clone is brought up to date, on its branch or to a commit."""

    def git(*arguments: str) -> str:
        name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(["git", *name, *arguments], cwd=origin, check=True, capture_output=True, text=True).stdout

    origin = tmp_path / "elsewhere" / "origin"
    origin.mkdir(parents=True)
    git("init", "--quiet", "--initial-branch", "main")
    first = _commit(origin, git, "one")
    clone = {"prefect.deployments.steps.git_clone": {"repository": str(origin)}}
    folder = Path(run_steps([clone])["directory"])
    assert (folder / "flow.py").read_text() == "one"

    _commit(origin, git, "two")
    run_steps([clone])
    assert (folder / "flow.py").read_text() == "two"

    git("config", "uploadpack.allowReachableSHA1InWant", "true")
    pinned = {"prefect.deployments.steps.git_clone": {"repository": str(origin), "commit_sha": first}}
    assert (Path(run_steps([pinned])["directory"]) / "flow.py").read_text() == "one"


def _commit(origin: Path, git: Callable[..., str], text: str) -> str:
    (origin / "flow.py").write_text(text)
    git("add", ".")
    git("commit", "--quiet", "-m", text)
    return git("rev-parse", "HEAD").strip()


def test_s9_dangerous_transports_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository that would run a command, or that looks like an option, does neither."""
    monkeypatch.setattr("headrace.deployments.git.ATTEMPTS", 1)
    for repository in ("ext::sh -c touch% pwned", "--upload-pack=touch pwned"):
        step = {"prefect.deployments.steps.git_clone": {"repository": repository, "clone_directory_name": "x"}}
        with pytest.raises(StepExecutionError, match="git"):
            run_steps([step])

    assert not Path("pwned").exists()
    assert not Path("x/pwned").exists()


def test_s9_a_token_is_not_on_the_command_line() -> None:
    """It travels in git's environment."""
    environment = environment_of("https://github.com/a/b", "geheim")

    assert environment["GIT_CONFIG_KEY_0"] == "http.extraHeader"
    assert "geheim" not in environment["GIT_CONFIG_VALUE_0"]
