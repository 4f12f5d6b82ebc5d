"""Where values of settings come from, strongest first.

    environment · .env in the working folder · headrace.toml, prefect.toml there · [tool.headrace], [tool.prefect] of
    pyproject.toml there · the active profile · the default

Within one source `HEADRACE_X` goes before `PREFECT_X`, and a setting's own name before its older ones. Files that do
not exist cost one failed open; tomllib is imported when one of them does.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from headrace.settings.convert import InvalidSetting
from headrace.settings.table import PREFIXES, alias_path, canonical_names, paths

ENVIRONMENT = "the environment"


class Found(Struct, frozen=True):
    """A value as its source says it: not converted yet."""

    path: str
    raw: Any
    source: str
    name: str


def named(items: Iterable[tuple[str, str]], source: str) -> list[Found]:
    """Those of `items` (name, text) that are settings, the stronger name of a setting first."""
    ranked = []
    for name, text in items:
        for rank, prefix in enumerate(PREFIXES):
            if not name.startswith(prefix) or name.startswith("_", len(prefix)):
                continue
            bare = name[len(prefix) :]
            path = canonical_names().get(bare)
            if path is not None:
                ranked.append((rank, Found(path, text, source, name)))
            elif (path := alias_path(bare)) is not None:
                ranked.append((rank + len(PREFIXES), Found(path, text, source, name)))
    ranked.sort(key=lambda pair: pair[0])
    return [found for _, found in ranked]


def from_environment(environment: Mapping[str, str] | None = None) -> list[Found]:
    """Settings in the environment."""
    return named((os.environ if environment is None else environment).items(), ENVIRONMENT)


def from_files(folder: str = "") -> Iterator[Found]:
    """Settings in .env, headrace.toml, prefect.toml and pyproject.toml of a folder, strongest first.

    Raises:
        InvalidSetting: a file is not valid TOML.
    """
    text = read_file(os.path.join(folder, ".env"))
    if text is not None:
        yield from named(dotenv(text.decode(errors="replace")), ".env")
    for name in ("headrace.toml", "prefect.toml"):
        text = read_file(os.path.join(folder, name))
        if text is not None:
            yield from nested(parse_toml(text, name), name)
    text = read_file(os.path.join(folder, "pyproject.toml"))
    # Most projects have a pyproject.toml, few say anything here: parsing it in vain would cost more than all the rest.
    if text is not None and (b"tool.headrace" in text or b"tool.prefect" in text):
        tool = parse_toml(text, "pyproject.toml").get("tool", {})
        for table in ("headrace", "prefect"):
            yield from nested(tool.get(table, {}), f"pyproject.toml [tool.{table}]")


def read_file(path: str) -> bytes | None:
    """The content of a file, or None when there is none that can be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def parse_toml(text: bytes, source: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        InvalidSetting: it is not valid; the message names the file and the place.
    """
    import tomllib

    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{source} is not valid TOML: {error}.") from None


def nested(table: Mapping[str, Any], source: str, prefix: str = "") -> Iterator[Found]:
    """Settings in a TOML table whose keys are nested like the tree. Unknown keys are warned about."""
    known = paths()
    for key, value in table.items():
        path = prefix + key.replace("-", "_")
        if path in known:
            yield Found(path, value, source, path)
        elif isinstance(value, dict) and any(one.startswith(path + ".") for one in known):
            yield from nested(value, source, path + ".")
        else:
            warnings.warn(f"{source}: there is no setting {path!r}; it is ignored.", stacklevel=2)


def dotenv(text: str) -> Iterator[tuple[str, str]]:
    """The `NAME=value` lines of a .env file; `export`, quotes and comments are understood."""
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        name, value = name.strip(), value.strip()
        if not equals or name.startswith("#"):
            continue
        if value[:1] in ("'", '"') and (end := value.find(value[0], 1)) > 0:
            quoted, value = value[0], value[1:end]
            if quoted == '"':
                value = value.replace("\\n", "\n").replace('\\"', '"')
        else:
            value = value.split(" #", 1)[0].rstrip()
        yield name, value
