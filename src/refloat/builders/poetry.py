"""Reading poetry.lock: the exact versions Poetry would install, as a requirements file for uv."""

import tomllib
from typing import Any

from refloat.domain.errors import BuildFailed


def pinned(lock: str) -> str:
    """The main group of a poetry.lock as pins, complete: to be installed without resolving anything.

    Locks made before Poetry 2 do not say which group a package is for: all of it is installed then.
    """
    try:
        packages = tomllib.loads(lock).get("package", [])
        lines = [_line(package) for package in packages if _is_main(package)]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise BuildFailed(f"poetry.lock cannot be read: {error}") from error
    unconditional = [line.split("==")[0] for line in lines if ";" not in line]
    for name in unconditional:
        if unconditional.count(name) > 1:
            raise BuildFailed(
                f"poetry.lock has {name} in several versions and does not say for which case each is",
                hint="run `poetry lock` with Poetry 2 or newer",
            )
    return "".join(f"{line}\n" for line in lines)


def _is_main(package: dict[str, Any]) -> bool:
    return "main" in package.get("groups", ["main"]) and not package.get("optional", False)


def _line(package: dict[str, Any]) -> str:
    markers = package.get("markers", "")
    marker = markers.get("main", "") if isinstance(markers, dict) else markers
    return _pin(package) + (f" ; {marker}" if marker else "")


def _pin(package: dict[str, Any]) -> str:
    name, source = package["name"], package.get("source", {})
    match source.get("type", "legacy"):
        case "git":
            return f"{name} @ git+{source['url']}@{source['resolved_reference']}"
        case "url":
            return f"{name} @ {source['url']}"
        case "directory" | "file":
            return f"./{source['url']}"
        case _:
            return f"{name}=={package['version']}"
