"""Which values of a block are secret, and what is shown in their place.  # S12

A schema names its secrets by paths with dots: `password`, `login.token`. A star stands for all that is below it, as in
`headers.*`, whatever follows in the path. A path leads into each item of a list, and into each value of a mapping, for
clients write `logins.token` also for a mapping of names to logins. Rather a value too many is hidden than one too few.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from headrace.settings.secret import STARS

_ALL = "*"


def secret_paths(fields: Mapping[str, Any]) -> list[str]:
    """The paths of the secrets, as a schema's fields name them."""
    return [path for path in fields.get("secret_fields") or () if isinstance(path, str)]


def masked(data: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy with stars for what the paths name; null is shown as it is."""
    shown: Any = data
    for path in paths:
        shown = _masked(shown, path.split("."), top=True)
    return dict(shown)


def _masked(value: Any, steps: list[str], *, top: bool = False) -> Any:
    if value is None:
        return None
    if not steps:
        return STARS
    if isinstance(value, list):
        return [_masked(one, steps) for one in value]
    if isinstance(value, dict):
        return value | {name: _masked(value[name], below) for name, below in _ways(value, steps, top).items()}
    return STARS if steps[0] == _ALL else value


def _ways(value: dict[str, Any], steps: list[str], top: bool) -> dict[str, list[str]]:
    """By the name of a member, the steps that are left to take in it."""
    here = steps[0]
    if here == _ALL:
        return dict.fromkeys(value, steps)
    ways = {} if top else {name: steps for name, one in value.items() if isinstance(one, dict | list)}
    return ways | ({here: steps[1:]} if here in value else {})


def restored(data: dict[str, Any], before: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """A copy with the values from before, where `data` has stars at one of the paths.

    Only there: a secret never moves to a place where it would be shown.
    """
    whole: Any = data
    for path in paths:
        whole = _restored(whole, before, path.split("."), top=True)
    return dict(whole)


def _restored(value: Any, before: Any, steps: list[str], *, top: bool = False) -> Any:
    if value == STARS and steps[:1] in ([], [_ALL]):
        return value if before is None else before
    if not steps:
        return value
    if isinstance(value, list) and isinstance(before, list):
        return [_restored(one, old, steps) for one, old in zip(value, [*before, *value[len(before) :]], strict=False)]
    if isinstance(value, dict) and isinstance(before, Mapping):
        ways = _ways(value, steps, top)
        return value | {name: _restored(value[name], before.get(name), below) for name, below in ways.items()}
    return value


def secret_texts(data: Any, paths: Iterable[str]) -> Iterator[str]:
    """The texts among the values that the paths name."""
    yield from _hidden_texts(data, masked(data, paths))


def _hidden_texts(value: Any, shown: Any) -> Iterator[str]:
    if isinstance(value, str):
        if shown == STARS:
            yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _hidden_texts(one, shown[name] if isinstance(shown, dict) else shown)
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _hidden_texts(one, shown[index] if isinstance(shown, list) else shown)
