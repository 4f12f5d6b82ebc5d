"""Getting code out of a Git repository, with the `git` of the machine.

Arguments are a list, never a shell line, with `--` before what a user gave; only transports that carry files are
allowed; a token travels in the environment, not on the command line.  # S9
"""

import base64
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.deployments.errors import DeploymentError

ATTEMPTS = 3
USERS = {"gitlab": "oauth2", "bitbucket": "x-token-auth"}
"""Names that hosts want beside a token; the others take anything."""


def folder_name(repository: str, branch: str | None = None, commit: str | None = None) -> str:
    """The folder a repository is cloned into: its name, with the branch or commit."""
    name = repository.rstrip("/").rpartition("/")[2].removesuffix(".git").replace(":", "-") or "repository"
    mark = branch or (commit[:12] if commit else None)
    return f"{name}-{mark.replace('/', '-')}" if mark else name


def clone_or_update(
    repository: str,
    folder: Path,
    *,
    branch: str | None = None,
    commit: str | None = None,
    submodules: bool = False,
    directories: Sequence[str] = (),
    token: str | None = None,
) -> None:
    """Bring a folder to the newest state of a branch, or to a commit.

    Args:
        repository: URL or path.
        folder: cloned into when it does not exist yet.
        branch: the branch; the repository's own when absent.
        commit: a commit's hash, instead of a branch.
        submodules: get submodules too.
        directories: get only these folders.
        token: access token, for https.

    Raises:
        DeploymentError: the arguments exclude each other, git is missing, or it failed three times.
    """
    if branch and commit:
        raise DeploymentError("Give a branch or a commit of the repository, not both.")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _clone_or_update(repository, folder, branch, commit, submodules, directories, token)
            return
        except DeploymentError:
            if attempt == ATTEMPTS:
                raise
            time.sleep(2 ** (attempt - 1))


def _clone_or_update(
    repository: str,
    folder: Path,
    branch: str | None,
    commit: str | None,
    submodules: bool,
    directories: Sequence[str],
    token: str | None,
) -> None:
    environment = environment_of(repository, token)
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run_git(["init", "--quiet"], folder, environment)
        run_git(["remote", "add", "--", "origin", repository], folder, environment)
    if directories:
        run_git(["sparse-checkout", "set", "--", *directories], folder, environment)
    run_git(["fetch", "--quiet", "--depth", "1", "origin", "--", commit or branch or "HEAD"], folder, environment)
    run_git(["checkout", "--quiet", "--force", "--detach", "FETCH_HEAD"], folder, environment)
    if submodules:
        run_git(["submodule", "update", "--quiet", "--init", "--recursive", "--depth", "1"], folder, environment)


def environment_of(repository: str, token: str | None) -> dict[str, str]:
    """The environment for git: no questions, no dangerous transports, the token as a header."""
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh"}
    if token:
        host = urlsplit(repository).hostname or ""
        user = next((name for mark, name in USERS.items() if mark in host), "x-access-token")
        text = base64.b64encode((token if ":" in token else f"{user}:{token}").encode()).decode()
        environment |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {text}",
        }
    return environment


def run_git(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run git in a folder and return what it prints.

    Raises:
        DeploymentError: git is not installed, or it failed.
    """
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    except FileNotFoundError:
        raise DeploymentError("git is not installed here, and code is to be pulled from a repository.") from None
    if done.returncode:
        raise DeploymentError(f"git {arguments[0]} failed in {folder}: {done.stderr.strip()}")
    return done.stdout


def token_of(access_token: str | None, credentials: Any) -> str | None:
    """The token in an access token or in credentials: a mapping or a block with `token`, `access_token`, or
    `username` and `password`.

    Raises:
        DeploymentError: both are given.
    """
    if access_token and credentials:
        raise DeploymentError("Give an access token or credentials, not both.")
    if not credentials:
        return access_token

    def get(name: str) -> Any:
        return credentials.get(name) if isinstance(credentials, Mapping) else getattr(credentials, name, None)

    secret = get("access_token") or get("token") or get("password")
    reveal = getattr(secret, "get_secret_value", None)
    text, user = (reveal() if reveal else secret), get("username")
    return f"{user}:{text}" if user and text else text
