"""Looking for text, in the words of each database.

Capitals are those of ASCII: SQLite knows no others, and PostgreSQL takes twice as long to know them.  # G19
"""

import re
import shlex
from collections.abc import Iterable

from sqlalchemy import ColumnElement, and_, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from headrace.exceptions import ValidationFailed
from headrace.server.store.condition import Condition

ESCAPE = "\\"
LONGEST = 10_000
_LETTERS = re.compile("[A-Za-z]+")


class text_like(Condition):
    """Whether a text fits a pattern of LIKE, in capitals or not: `text_like(column, pattern)`."""

    inherit_cache = True
    name = "text_like"


class text_holds(Condition):
    """Whether a text has another in it, letter by letter: `text_holds(column, text)`."""

    inherit_cache = True
    name = "text_holds"


def like(column: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Whether the column holds `text`, in capitals or not; `%` and `_` stand for themselves.  # S8

    Its longest stretch without letters is looked for first: as it has no capitals, that takes half as long.

    Raises:
        ValidationFailed: the text is longer than a database looks for.  # S7
    """
    if len(text) > LONGEST:
        raise ValidationFailed(f"A text to look for has at most {LONGEST} characters, not {len(text)}.")
    escaped = text.replace(ESCAPE, ESCAPE * 2).replace("%", f"{ESCAPE}%").replace("_", f"{ESCAPE}_")
    plain = max(_LETTERS.split(text), key=len)
    found = fits(column, f"%{escaped}%")
    return and_(text_holds(column, literal(plain)), found) if plain else found


def fits(column: ColumnElement[str], pattern: str) -> ColumnElement[bool]:
    """Whether the column fits a pattern of LIKE, in capitals or not."""
    return text_like(column, literal(pattern))


def _two(element: Condition, compiler: SQLCompiler, **options: object) -> tuple[str, str]:
    column, pattern = (compiler.process(clause, **options) for clause in element.clauses)
    return column, pattern


@compiles(text_like, "sqlite")
def _like_sqlite(element: text_like, compiler: SQLCompiler, **options: object) -> str:
    column, pattern = _two(element, compiler, **options)
    return f"({column} LIKE {pattern} ESCAPE '{ESCAPE}')"  # SQLite's LIKE does not tell capitals apart


@compiles(text_like, "postgresql")
def _like_postgresql(element: text_like, compiler: SQLCompiler, **options: object) -> str:
    column, pattern = _two(element, compiler, **options)
    return f"""(lower(({column}) COLLATE "C") LIKE lower({pattern} COLLATE "C") ESCAPE '{ESCAPE}')"""


@compiles(text_holds, "sqlite")
def _holds_sqlite(element: text_holds, compiler: SQLCompiler, **options: object) -> str:
    return "(instr({}, {}) > 0)".format(*_two(element, compiler, **options))


@compiles(text_holds, "postgresql")
def _holds_postgresql(element: text_holds, compiler: SQLCompiler, **options: object) -> str:
    return "(strpos({}, {}) > 0)".format(*_two(element, compiler, **options))


def words_of(query: str) -> list[tuple[str, bool]]:
    """The words of a search, each with whether it must be there; `-word` or `!word` must not, quotes join words."""
    return [
        (word[1:], word[0] == "+") if word[0] in "-!+" and len(word) > 1 else (word, True) for word in _split(query)
    ]


def has_words(texts: Iterable[str], query: str) -> bool:
    """Whether each word of a search is in one of some texts, or in none if it must not; the twin of `like`."""
    folded = [text.encode().lower() for text in texts]  # bytes have no capitals but those of ASCII
    return all(any(word.encode().lower() in text for text in folded) is present for word, present in words_of(query))


def _split(query: str) -> Iterable[str]:
    try:
        return [word for word in shlex.split(query) if word]
    except ValueError:  # a quote that is never closed
        return query.split()
