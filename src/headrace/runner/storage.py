"""Where a flow's code is kept when it is not beside the worker: a folder, a Git repository, a remote storage."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from headrace.deployments.errors import DeploymentError
from headrace.deployments.git import clone_or_update, folder_name, token_of
from headrace.deployments.steps import pull_from_remote_storage

STEPS = "headrace.deployments.steps"


@runtime_checkable
class RunnerStorage(Protocol):
    """A place that code is pulled from."""

    @property
    def destination(self) -> Path:
        """The folder the code is pulled into."""
        ...

    def set_base_path(self, path: Path) -> None:
        """Pull below this folder."""
        ...

    def pull_code_now(self) -> None:
        """Bring the folder up to date."""
        ...

    def to_pull_step(self) -> dict[str, Any]:
        """The step with which a run gets the code."""
        ...


class _Storage:
    """What all storages share: a base folder, and how often they are pulled."""

    def __init__(self, pull_interval: int | None) -> None:
        self.pull_interval = pull_interval
        self._base = Path.cwd()

    def set_base_path(self, path: Path) -> None:
        """Pull below this folder."""
        self._base = path

    def pull_code_now(self) -> None:
        """Bring the folder up to date."""
        raise NotImplementedError

    async def pull_code(self) -> None:
        """The awaitable form of `pull_code_now`."""
        await asyncio.to_thread(self.pull_code_now)


class LocalStorage(_Storage):
    """A folder of this machine.

    Args:
        path: the folder.
        pull_interval: accepted; there is nothing to pull.
    """

    def __init__(self, path: str, pull_interval: int | None = None) -> None:
        super().__init__(pull_interval)
        self._path = Path(path).expanduser().resolve()

    @property
    def destination(self) -> Path:
        """The folder."""
        return self._path

    def pull_code_now(self) -> None:
        """Check that the folder is there.

        Raises:
            DeploymentError: it is not.
        """
        if not self._path.is_dir():
            raise DeploymentError(f"There is no folder {self._path}.")

    def to_pull_step(self) -> dict[str, Any]:
        """The step that goes to the folder."""
        return {f"{STEPS}.set_working_directory": {"directory": str(self._path)}}


class GitRepository(_Storage):
    """A Git repository.

    Args:
        url: its URL.
        credentials: a mapping or block with `access_token`, or with `username` and `password`.
        name: the folder it is cloned into; made from the URL and the branch when absent.
        branch: the branch; the repository's own when absent.
        commit_sha: a commit, instead of a branch.
        include_submodules: get submodules too.
        pull_interval: seconds between two updates.
        directories: get only these folders.

    Raises:
        DeploymentError: a branch and a commit are given.
    """

    def __init__(
        self,
        url: str,
        credentials: Any = None,
        name: str | None = None,
        branch: str | None = None,
        commit_sha: str | None = None,
        include_submodules: bool = False,
        pull_interval: int | None = 60,
        directories: Sequence[str] | None = None,
    ) -> None:
        super().__init__(pull_interval)
        if branch and commit_sha:
            raise DeploymentError("Give a branch or a commit of the repository, not both.")
        self.url, self.branch, self.commit_sha = url, branch, commit_sha
        self._credentials, self._submodules = credentials, include_submodules
        self._directories = list(directories or ())
        self.name = name or folder_name(url, branch, commit_sha)

    @property
    def destination(self) -> Path:
        """The folder it is cloned into."""
        return self._base / self.name

    def pull_code_now(self) -> None:
        """Clone it, or update the clone.

        Raises:
            DeploymentError: git failed.
        """
        clone_or_update(
            self.url,
            self.destination,
            branch=self.branch,
            commit=self.commit_sha,
            submodules=self._submodules,
            directories=self._directories,
            token=token_of(None, self._credentials),
        )

    def to_pull_step(self) -> dict[str, Any]:
        """The step that clones it where a run is.

        Raises:
            DeploymentError: credentials are given in the clear, which would be stored with the deployment.
        """
        if self._credentials:
            raise DeploymentError(
                "Credentials of a repository would be stored in the clear with the deployment. Deploy with a "
                "git_clone step in headrace.yaml whose access_token is {{ $NAME_OF_A_VARIABLE }} instead."
            )
        inputs = {
            "repository": self.url,
            "branch": self.branch,
            "commit_sha": self.commit_sha,
            "include_submodules": self._submodules or None,
            "directories": self._directories or None,
            "clone_directory_name": self.name,
        }
        return {f"{STEPS}.git_clone": {name: value for name, value in inputs.items() if value is not None}}


class RemoteStorage(_Storage):
    """A folder of a storage that fsspec knows.

    Args:
        url: its URL, such as `s3://bucket/folder`.
        pull_interval: seconds between two updates.
        **settings: for the storage's file system.
    """

    def __init__(self, url: str, pull_interval: int | None = 60, **settings: Any) -> None:
        super().__init__(pull_interval)
        self.url, self._settings = url, settings

    @property
    def destination(self) -> Path:
        """The folder it is copied into."""
        return self._base / (urlsplit(self.url).path.rstrip("/").rpartition("/")[2] or "storage")

    def pull_code_now(self) -> None:
        """Copy it.

        Raises:
            StepExecutionError: what reads such a storage is not installed.
        """
        pull_from_remote_storage(self.url, self.destination, **self._settings)

    def to_pull_step(self) -> dict[str, Any]:
        """The step that copies it where a run is."""
        return {f"{STEPS}.pull_from_remote_storage": {"url": self.url, **self._settings}}


def create_storage_from_source(source: Any, pull_interval: int | None = 60) -> Any:
    """The storage a `source` stands for.

    Args:
        source: a folder, the URL of a Git repository or of a remote storage, or a storage.
        pull_interval: seconds between two updates.

    Raises:
        DeploymentError: it is none of these.
    """
    if isinstance(source, RunnerStorage):
        return source
    if isinstance(source, Path):
        return LocalStorage(str(source))
    if not isinstance(source, str):
        raise DeploymentError(f"{source!r} is no folder, no URL and no storage.")
    scheme, separator, rest = source.partition("://")
    if source.startswith("git@") or source.endswith(".git") or scheme in ("http", "https", "ssh", "git"):
        return GitRepository(source, pull_interval=pull_interval)
    if separator and scheme in ("file", "local"):
        return LocalStorage(rest)
    return RemoteStorage(source, pull_interval) if separator else LocalStorage(source)
