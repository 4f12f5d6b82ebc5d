"""Where results and files of deployments are kept: the interface, and folders of this machine.

A file system is anything with `read_path(path) -> bytes` and `write_path(path, content) -> str`; both may be coroutine
functions. Derive your own from `WritableFileSystem`.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace._internal.ids import uuid7
from headrace._internal.threads import in_thread


class ReadableFileSystem:
    """Something that files can be read from."""

    def read_path(self, path: str) -> Any:
        """The content of the file at `path`, as bytes."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to read a file: give it `read_path`.")


class WritableFileSystem(ReadableFileSystem):
    """Something that files can be read from and written to."""

    def write_path(self, path: str, content: bytes) -> Any:
        """Write the file at `path` and return its full path."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to write a file: give it `write_path`.")


class ReadableDeploymentStorage:
    """Something that a folder of code can be fetched from."""

    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> Any:
        """Copy the folder `from_path` to `local_path` on this machine."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to fetch a folder: give it `get_directory`.")


class WritableDeploymentStorage(ReadableDeploymentStorage):
    """Something that a folder of code can be fetched from and stored in."""

    def put_directory(
        self, local_path: str | None = None, to_path: str | None = None, ignore_file: str | None = None
    ) -> Any:
        """Copy the folder `local_path` of this machine to `to_path` and return the number of files."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to store a folder: give it `put_directory`.")


class LocalFileSystem(WritableFileSystem, WritableDeploymentStorage):
    """A folder of this machine. Nothing outside of it is read or written.

    Args:
        basepath: the folder; without one, relative paths are below the working folder and any absolute path is taken.
    """

    def __init__(self, basepath: str | os.PathLike[str] | None = None) -> None:
        self.basepath = None if basepath is None else os.fspath(basepath)

    def __repr__(self) -> str:
        return f"LocalFileSystem(basepath={self.basepath!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalFileSystem) and other.basepath == self.basepath

    def __hash__(self) -> int:
        return hash(self.basepath)

    def resolve(self, path: str | os.PathLike[str] | None, must_exist: bool = False) -> Path:
        """The full path of `path`.

        Args:
            path: relative to the folder, or absolute and in it; None for the folder itself.
            must_exist: raise when there is nothing.

        Raises:
            ValueError: it is outside of the folder, or, with `must_exist`, there is nothing.
        """
        base = os.path.abspath(os.path.expanduser(self.basepath or ""))
        found = os.path.normpath(os.path.join(base, os.path.expanduser(path or "")))
        if self.basepath is not None and found != base and not found.startswith(base.rstrip(os.sep) + os.sep):
            raise ValueError(f"The path {str(path)!r} is outside of {base!r}; name one inside of it.")
        if must_exist and not os.path.exists(found):
            raise ValueError(f"Path {found} does not exist.")
        return Path(found)

    def read_path(self, path: str) -> bytes:
        """The content of a file.

        Args:
            path: relative to the folder, or absolute and in it.

        Raises:
            ValueError: the path is outside of the folder, or there is no file.
        """
        found = self.resolve(path, must_exist=True)
        if not found.is_file():
            raise ValueError(f"Path {found} is not a file.")
        return found.read_bytes()

    def write_path(self, path: str, content: bytes) -> str:
        """Write a file; whoever reads it meanwhile sees the old one or the new one, never a part.

        Args:
            path: relative to the folder, or absolute and in it. Missing folders are made.
            content: of the file.

        Returns:
            Its full path.

        Raises:
            ValueError: the path is outside of the folder.
        """
        target = self.resolve(path)
        try:
            return _write(target, content)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            return _write(target, content)

    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> None:
        """Copy a folder out of this one.

        Args:
            from_path: which; this folder itself when absent.
            local_path: where to; the working folder when absent.
        """
        import shutil

        source = self.resolve(from_path, must_exist=True)
        target = Path(local_path or ".").expanduser().resolve()
        if source != target:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=_all_but([], target))

    def put_directory(
        self, local_path: str | None = None, to_path: str | None = None, ignore_file: str | None = None
    ) -> int:
        """Copy a folder into this one.

        Args:
            local_path: which; the working folder when absent.
            to_path: where to, in this folder; the folder itself when absent.
            ignore_file: a file with a pattern a line of what to leave out; lines that begin with `#` are comments.

        Returns:
            The number of files in the place copied to.
        """
        import shutil

        source, target = Path(local_path or ".").expanduser().resolve(), self.resolve(to_path)
        patterns = Path(ignore_file).read_text().splitlines() if ignore_file else []
        wanted = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
        if source != target:
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=_all_but(wanted, target))
        return sum(1 for found in target.rglob("*") if found.is_file())

    async def aread_path(self, path: str) -> bytes:
        """The same as `read_path`, for coroutines."""
        return await in_thread(self.read_path, path)

    async def awrite_path(self, path: str, content: bytes) -> str:
        """The same as `write_path`, for coroutines."""
        return await in_thread(self.write_path, path, content)

    async def aget_directory(self, from_path: str | None = None, local_path: str | None = None) -> None:
        """The same as `get_directory`, for coroutines."""
        await in_thread(self.get_directory, from_path, local_path)

    async def aput_directory(
        self, local_path: str | None = None, to_path: str | None = None, ignore_file: str | None = None
    ) -> int:
        """The same as `put_directory`, for coroutines."""
        return await in_thread(self.put_directory, local_path, to_path, ignore_file)


class NullFileSystem(WritableFileSystem, WritableDeploymentStorage):
    """Keeps nothing: what is written is gone, and there is nothing to read."""

    def read_path(self, path: str) -> bytes:
        """Nothing.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"Path {path} does not exist: nothing is kept here.")

    def write_path(self, path: str, content: bytes) -> str:
        """Keep nothing and return `path`."""
        del content
        return path

    def get_directory(self, from_path: str | None = None, local_path: str | None = None) -> None:
        """Fetch nothing."""

    def put_directory(
        self, local_path: str | None = None, to_path: str | None = None, ignore_file: str | None = None
    ) -> int:
        """Keep nothing; no files."""
        del local_path, to_path, ignore_file
        return 0


def _write(target: Path, content: bytes) -> str:
    draft = target.with_name(f".{uuid7().hex}")
    try:
        draft.write_bytes(content)
        os.replace(draft, target)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    return str(target)


def _all_but(patterns: list[str], target: Path) -> Callable[[str, list[str]], Iterable[str]]:
    """For `copytree`: what to leave out. The place copied to is never copied into itself."""
    from fnmatch import fnmatch

    def ignored(folder: str, names: list[str]) -> set[str]:
        here = Path(folder).resolve()
        return {
            name
            for name in names
            if here / name == target or any(fnmatch(name, pattern.strip("/")) for pattern in patterns)
        }

    return ignored
