"""Reading YAML so that every value still knows its line.

Only what JSON can hold is read: texts, numbers, `true` and `false`, null, lists and mappings. `yes`, `on` and
dates stay texts, because the writer meant the words. A key given twice is an error, not a surprise.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import yaml

from refloat.cli.problems import Problem

_LARGEST = 1024 * 1024
_MOST_NODES = 100_000
"""Aliases can make a small file mean a huge document."""
AS_TEXT = ("value",)
"""Keys whose scalars are texts however they look: `value: 8080` and `value: true` are variables."""


class Map(dict[str, Any]):
    """A mapping; `line` is its own, `lines` those of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}


class Seq(list[Any]):
    """A list; `line` is its own, `lines` those of its items."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []


class Reader:
    """Makes values of one file's nodes; every complaint names file and line.

    `given` is what stands in texts for `${NAME}`; other dollars are left as they are.
    """

    def __init__(self, name: str, given: Mapping[str, str]) -> None:
        self.name = name
        self._given = given
        self._used: set[str] = set()
        self._count = 0

    def read(self, text: str) -> Map:
        """The document of a file, which is one mapping."""
        if len(text) > _LARGEST:
            raise Problem(f"{self.name} is larger than {_LARGEST} bytes")
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self.wrong(mark.line + 1 if mark else 1, str(error.problem or error.context)) from None
        except yaml.YAMLError as error:
            raise self.wrong(1, str(error).splitlines()[0]) from None
        except RecursionError:
            raise self.wrong(1, "the document is nested too deeply") from None
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(1, "a mapping is expected, which begins with `name:`")
        made: Map = self._made(node, ())
        if unused := sorted(set(self._given) - self._used):
            raise Problem(f"{self.name} has no ${{{unused[0]}}}", hint="leave that --set out")
        return made

    def wrong(self, line: int, words: str, hint: str = "") -> Problem:
        return Problem(f"{self.name}, line {line}: {words}", hint=hint)

    def _made(self, node: Any, path: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_NODES:
            raise self.wrong(line, f"the document has more than {_MOST_NODES} values")
        if id(node) in path:
            raise self.wrong(line, "the document contains itself")
        path = (*path, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, line, path)
        if isinstance(node, yaml.SequenceNode):
            made = Seq(line)
            for item in node.value:
                made.append(self._made(item, path))
                made.lines.append(item.start_mark.line + 1)
            return made
        value = _scalar(node)
        return self._filled(value) if isinstance(value, str) else value

    def _filled(self, text: str) -> str:
        for name, value in self._given.items():
            if f"${{{name}}}" in text:
                self._used.add(name)
                text = text.replace(f"${{{name}}}", value)
        return text

    def _mapping(self, node: Any, line: int, path: tuple[int, ...]) -> Map:
        made = Map(line)
        for key_node, value_node in node.value:
            at, key = key_node.start_mark.line + 1, key_node.value
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.wrong(at, "a key is a word")
            if key in made:
                raise self.wrong(at, f"{key!r} is given twice, first in line {made.lines[key]}")
            is_text = key in AS_TEXT and isinstance(value_node, yaml.ScalarNode) and not _is_null(value_node)
            made[key] = self._filled(value_node.value) if is_text else self._made(value_node, path)
            made.lines[key] = at
        return made


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Knows the words of JSON and no others."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"null|~|", "n~\0"),
    ("tag:yaml.org,2002:int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?[0-9]+\.[0-9]+", "-0123456789"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), [*_first, ""])


def _is_null(node: Any) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _scalar(node: Any) -> Any:
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value == "true"
    if kind in ("int", "float"):
        return int(node.value) if kind == "int" else float(node.value)
    return node.value
