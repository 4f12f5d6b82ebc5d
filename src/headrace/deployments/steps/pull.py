"""Steps that get a flow's code to where it runs."""

import importlib
import os
from pathlib import Path
from typing import Any

from headrace.deployments.errors import StepExecutionError
from headrace.deployments.git import clone_or_update, folder_name, token_of


def set_working_directory(directory: str) -> dict[str, str]:
    """Go to a folder.

    Args:
        directory: the folder.

    Returns:
        `directory`: the folder, as an absolute path.

    Raises:
        StepExecutionError: it does not exist, or is no folder.
    """
    try:
        os.chdir(directory)
    except OSError as error:
        raise StepExecutionError(
            f"The folder {directory!r} of the deployment is not here: {error.strerror}. Deploy from a folder that "
            "the worker has too, or pull the code with a git_clone step."
        ) from error
    return {"directory": str(Path.cwd())}


def git_clone(
    repository: str,
    branch: str | None = None,
    commit_sha: str | None = None,
    include_submodules: bool = False,
    access_token: str | None = None,
    credentials: Any = None,
    directories: list[str] | None = None,
    clone_directory_name: str | None = None,
) -> dict[str, str]:
    """Clone a Git repository below the working folder, or update the clone that is there.

    Args:
        repository: its URL.
        branch: the branch; the repository's own when absent.
        commit_sha: a commit, instead of a branch.
        include_submodules: get submodules too.
        access_token: token for a private repository.
        credentials: a mapping or block that holds one, instead.
        directories: get only these folders.
        clone_directory_name: the folder to clone into.

    Returns:
        `directory`: the clone.

    Raises:
        DeploymentError: the arguments exclude each other, or git failed.
    """
    folder = Path.cwd() / (clone_directory_name or folder_name(repository, branch, commit_sha))
    clone_or_update(
        repository,
        folder,
        branch=branch,
        commit=commit_sha,
        submodules=include_submodules,
        directories=directories or (),
        token=token_of(access_token, credentials),
    )
    return {"directory": str(folder)}


async def agit_clone(repository: str, **options: Any) -> dict[str, str]:
    """The asynchronous form of `git_clone`."""
    return git_clone(repository, **options)


def pull_from_remote_storage(url: str, into: Path | None = None, **settings: Any) -> dict[str, str]:
    """Copy a folder of a remote storage below the working folder.

    Args:
        url: its URL, as fsspec reads it: `s3://bucket/folder`.
        into: where to; a folder of that name when absent.
        **settings: for the storage's file system.

    Returns:
        `directory`: the copy.

    Raises:
        StepExecutionError: fsspec, or its part for this storage, is not installed.
    """
    scheme, _, path = url.partition("://")
    try:
        filesystem = importlib.import_module("fsspec").filesystem(scheme, **settings)
    except ImportError as error:
        raise StepExecutionError(f"Pulling from {scheme}:// needs a package that is not installed: {error}.") from error
    folder = into or Path.cwd() / (path.rstrip("/").rpartition("/")[2] or "storage")
    filesystem.get(path.rstrip("/") + "/", f"{folder}/", recursive=True)
    return {"directory": str(folder)}
