"""The guide of the command line names commands and exit codes that there are, and all of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from refloat.cli.main import main
from refloat.cli.problems import Exit

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/command-line.md").read_text()
README = (ROOT / "README.md").read_text()


def commands(group: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    context = click.Context(group)
    for name in group.list_commands(context) if isinstance(group, click.Group) else ():
        found = group.get_command(context, name) if isinstance(group, click.Group) else None
        assert found is not None
        yield from commands(found, (*path, name))


def test_every_command_that_is_named_can_be_typed() -> None:
    known = {" ".join(path) for path in commands()}
    groups = {path[0] for path in commands() if len(path) > 1}
    for words in re.findall(r"refloat ([a-z]+(?: [a-z]+)?)", GUIDE + README):
        name = words if words.split()[0] in groups else words.split()[0]
        assert name in known or name.split()[0] in known, words


def test_every_command_is_in_the_guide() -> None:
    for path in commands():
        if path[0] in ("emulator", "serve"):  # these have guides of their own
            continue
        assert re.search(rf"refloat {path[0]}\b", GUIDE), path
        assert re.search(rf"\b{path[-1]}\b", GUIDE), path


def test_the_exit_codes_are_those_of_the_program() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", GUIDE, re.M)}
    assert told == {*map(int, Exit), 130}


def test_the_options_that_the_guide_shows_are_there() -> None:
    known = {option for path in commands() for option in _options(path)}
    assert set(re.findall(r"--[a-z][a-z-]+", GUIDE)) <= known | {"--help"}


def _options(path: tuple[str, ...]) -> set[str]:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def test_the_list_of_commands_cuts_no_sentence_off() -> None:
    listing = CliRunner().invoke(main, ["--help"]).output.partition("Commands:")[2]
    assert "..." not in listing and "up" in listing
