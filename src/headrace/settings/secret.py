"""A text that must not be shown: a password, a key, a connection URL.

It prints as stars wherever it is formatted, so it cannot slip into a log or an error; `get_secret_value()` is the one
way to read it.  # S12
"""

STARS = "********"
SHORTEST = 4
"""Characters; a shorter secret would star out half of what is said."""

_count = -1
_known: tuple[str, ...] = ()


class Secret:
    """A text that prints as stars.

    Args:
        value: the text itself.
    """

    __slots__ = ("_value",)

    known: set[str] = set()
    """Every secret this process has met, for whoever masks logs."""

    def __init__(self, value: str) -> None:
        self._value = value
        if value:
            Secret.known.add(value)

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._value

    def __str__(self) -> str:
        return STARS if self._value else ""

    def __repr__(self) -> str:
        return f"Secret({str(self)!r})"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[type["Secret"], tuple[str]]:
        raise TypeError("A secret is not pickled; pass it on by the environment, or read it again where it is needed.")


def mask(text: str) -> str:
    """`text` with every secret this process knows replaced by stars."""
    global _count, _known
    if _count != len(Secret.known):
        _count = len(Secret.known)
        _known = tuple(sorted((one for one in Secret.known.copy() if len(one) >= SHORTEST), key=len, reverse=True))
    for secret in _known:
        if secret in text:
            text = text.replace(secret, STARS)
    return text
