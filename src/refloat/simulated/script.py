"""How a simulated service behaves, written as a query string.

It stands in the fragment of the service's git URL (`https://example.org/api.git#boot=exit`) or in its
variable `REFLOAT_SIMULATE`, which wins. A value with commas is used in turn, the last one for ever:
`boot=ok,exit` starts well once and dies at the next start.
"""

from urllib.parse import parse_qsl, urlsplit

from refloat.domain.errors import Invalid

VARIABLE = "REFLOAT_SIMULATE"

WORDS: dict[str, tuple[str, ...]] = {
    "resolve": ("ok", "fail"),  # the branch can be read
    "build": ("ok", "fail", "hang"),
    "release": ("none", "ok", "fail", "hang"),  # a release command, and how it ends
    "boot": ("ok", "exit", "hang", "elsewhere"),  # hang: it never becomes ready; elsewhere: on another port
    "answer": ("ok", "error", "none", "old"),  # through the route; old: the switch has no effect
    "stop": ("ok", "fail", "hang"),
    "destroy": ("ok", "fail"),
}
SECONDS = ("build_seconds", "release_seconds", "boot_seconds", "drain_seconds", "stop_seconds")


class Script:
    """A parsed script; `turn` picks among values that are used in turn."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self._values = {
            key: tuple(value.split(",")) for key, value in parse_qsl(text, keep_blank_values=True)
        }
        for key, values in self._values.items():
            _check(key, values)

    def word(self, key: str, turn: int = 0) -> str:
        """The behaviour for the n-th time (from 0)."""
        values = self._values.get(key) or WORDS[key][:1]
        return values[min(turn, len(values) - 1)]

    def seconds(self, key: str) -> float:
        """A duration; 0 if the script says nothing."""
        return float(self._values[key][0]) if key in self._values else 0.0


def of_url(url: str) -> Script:
    """The script in a git URL's fragment, if it is one."""
    fragment = urlsplit(url).fragment
    return Script(fragment if "=" in fragment else "")


def _check(key: str, values: tuple[str, ...]) -> None:
    if key in SECONDS:
        if not all(_is_number(value) for value in values):
            raise Invalid(f"the simulation script's {key} must be a number of seconds")
    elif key not in WORDS:
        raise Invalid(
            f"the simulation script has an unknown word {key!r}",
            hint=f"known are {', '.join([*WORDS, *SECONDS])}",
        )
    elif unknown := set(values) - set(WORDS[key]):
        raise Invalid(
            f"the simulation script's {key} cannot be {min(unknown)!r}", hint=f"use {', '.join(WORDS[key])}"
        )


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
