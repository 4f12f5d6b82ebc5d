"""Steps that run programs."""

import os
import shlex
import shutil
import string
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO

from headrace.deployments.errors import StepExecutionError


def run_shell_script(
    script: str,
    directory: str | None = None,
    env: Mapping[str, str] | None = None,
    stream_output: bool = True,
    expand_env_vars: bool = False,
    shell: bool = False,
) -> dict[str, str]:
    """Run commands, one in each line.

    Args:
        script: the commands.
        directory: the folder to run them in.
        env: variables on top of this process's environment.
        stream_output: print what they print, as it comes.
        expand_env_vars: replace `$NAME` in the script by its value first.
        shell: give the whole script to a shell, for pipes and the like.

    Returns:
        `stdout` and `stderr` of the last command that printed there.

    Raises:
        StepExecutionError: a command failed, or does not exist.
    """
    environment = {**os.environ, **(env or {})}
    text = string.Template(script).safe_substitute(environment) if expand_env_vars else script
    if shell:
        commands = [["cmd", "/c", text] if os.name == "nt" else ["/bin/sh", "-c", text]]
    else:
        commands = [shlex.split(line, comments=True) for line in text.splitlines()]
    printed, complained = "", ""
    for command in commands:
        if command:
            out, err = run_command(command, directory, environment, stream_output)
            printed, complained = out.strip() or printed, err.strip() or complained
    return {"stdout": printed, "stderr": complained}


def run_command(
    command: list[str], directory: str | None, environment: Mapping[str, str], stream_output: bool
) -> tuple[str, str]:
    """Run one command; returns what it printed and what it complained.

    Raises:
        StepExecutionError: it does not exist, or ended with another code than 0.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise StepExecutionError(f"{command[0]!r} cannot be run: {error.strerror}.") from error
    texts: tuple[list[str], list[str]] = ([], [])
    pipes = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
    readers = [
        threading.Thread(target=_read, args=(pipe, screen if stream_output else None, text))
        for (pipe, screen), text in zip(pipes, texts, strict=True)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    out, err = "".join(texts[0]), "".join(texts[1])
    if process.wait():
        raise StepExecutionError(
            f"{shlex.join(command)} ended with exit code {process.returncode}: {err.strip()[-2000:]}"
        )
    return out, err


def _read(pipe: IO[str] | None, screen: IO[str] | None, text: list[str]) -> None:
    with pipe or open(os.devnull) as lines:
        for line in lines:
            text.append(line)
            if screen is not None:
                screen.write(line)


def pip_install_requirements(
    directory: str | None = None, requirements_file: str = "requirements.txt", stream_output: bool = True
) -> dict[str, str]:
    """Install what a requirements file asks for into this interpreter's environment.

    Args:
        directory: the folder of the file.
        requirements_file: its name.
        stream_output: print what the installer prints.

    Returns:
        `stdout` and `stderr` of the installer.

    Raises:
        StepExecutionError: it failed.
    """
    uv = shutil.which("uv")
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    out, err = run_command([*installer, "-r", requirements_file], directory, os.environ, stream_output)
    return {"stdout": out.strip(), "stderr": err.strip()}
