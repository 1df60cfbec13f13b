"""Statements of PostgreSQL with their values in the text, so that several go in one message.

Only text, integers and NULL are ever stored. In a text between quotes nothing but the quote itself means
anything, as long as backslashes are ordinary characters, which every session is opened with.
"""

import re
from functools import lru_cache

from refloat.store.database import Compiled

_PLACE = re.compile(r"\$(\d+)")


def written_out(compiled: Compiled, values: dict[str, object]) -> str:
    """The statement with these values instead of its parameters. Raises ValueError for what PostgreSQL
    cannot hold."""
    known = compiled.ordered(values)
    texts = iter(_parts(compiled.text))
    out = [next(texts)]
    for place in texts:
        out += (_literal(known[int(place) - 1]), next(texts))
    return "".join(out)


@lru_cache(maxsize=256)
def _parts(text: str) -> tuple[str, ...]:
    """By turns: text, and the number of the parameter that follows it."""
    return tuple(_PLACE.split(text))


def _literal(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("only text without NUL, integers and NULL can be stored")
    return "'" + value.replace("'", "''") + "'"
