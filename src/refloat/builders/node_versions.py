"""Version ranges as package.json writes them: which Node.js a repository asks for. Pure.

Comparators, `^`, `~`, `x`, hyphens, spaces for "and", `||` for "or". Pre-releases are compared by
their numbers alone.
"""

import re

Version = tuple[int, int, int]
_Bounds = tuple[Version, Version | None]
"""From this version on, below that one (None: no end)."""

_PARTIAL = r"v?(?P<major>\d+|[xX*])(?:\.(?P<minor>\d+|[xX*]))?(?:\.(?P<patch>\d+|[xX*]))?(?:[-+][\w.+-]+)?"
_TERM = re.compile(rf"(?P<sign>>=|<=|>|<|=|\^|~>?|){_PARTIAL}")
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)")
_SIGN = re.compile(r"(>=|<=|>|<|=|\^|~>?)\s+")


def parse_version(text: str) -> Version:
    """The numbers of a full version; raises ValueError when it is none."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a version")
    return int(match[1]), int(match[2]), int(match[3])


def satisfies(version: str, wanted: str) -> bool:
    """Whether the version is in the range; raises ValueError when the range cannot be read."""
    found = parse_version(version)
    choices = [_bounds_of(choice.strip()) for choice in wanted.split("||")]
    return any(all(_within(found, bounds) for bounds in choice) for choice in choices)


def _within(version: Version, bounds: _Bounds) -> bool:
    low, high = bounds
    return version >= low and (high is None or version < high)


def _bounds_of(choice: str) -> list[_Bounds]:
    if hyphen := _HYPHEN.fullmatch(choice):
        return [_bounds(">=" + hyphen[1]), _bounds("<=" + hyphen[2])]
    return [_bounds(term) for term in _SIGN.sub(r"\1", choice).split()]


def _bounds(term: str) -> _Bounds:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(f"{term!r} is not a version range")
    numbers: list[int] = []
    for name in ("major", "minor", "patch"):
        if not (match[name] or "").isdigit():
            break
        numbers.append(int(match[name]))
    return _around(match["sign"], numbers)


def _around(sign: str, numbers: list[int]) -> _Bounds:
    """The bounds of a comparator with the given leading numbers; without any, everything fits."""
    if not numbers:
        return (0, 0, 0), None
    low, after = _full(numbers), _next(numbers, len(numbers) - 1)
    match sign:
        case ">=":
            return low, None
        case ">":
            return after, None
        case "<":
            return (0, 0, 0), low
        case "<=":
            return (0, 0, 0), after
        case "^":
            leading = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
            return low, _next(numbers, leading)
        case "~" | "~>":
            return low, _next(numbers, min(1, len(numbers) - 1))
        case _:
            return low, after


def _full(numbers: list[int]) -> Version:
    major, minor, patch = (*numbers, 0, 0)[:3]
    return major, minor, patch


def _next(numbers: list[int], place: int) -> Version:
    """The first version after all that begin with the numbers up to this place."""
    return _full([*numbers[:place], numbers[place] + 1])
