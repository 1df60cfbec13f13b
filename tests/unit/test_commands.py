"""What is run of a service, from its entrypoint, its arguments and the command that its build found."""

import subprocess
from typing import Any

import pytest

from refloat.domain.revision import Artifact
from refloat.domain.services import Command
from refloat.execution.revisions import command_words

SHELL = ("/bin/sh", "-c", "exec echo web")
PLAIN = ("/bin/echo", "web")


@pytest.mark.parametrize("web", [SHELL, PLAIN])
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ({}, "web"),
        ({"entrypoint": "echo own"}, "own"),
        ({"entrypoint": "echo own", "arguments": ("a b", "-c")}, "own a b -c"),
        ({"arguments": ("echo", "migrate", "--all")}, "migrate --all"),
        ({"arguments": ("--port", "a b", "$HOME")}, "web --port a b $HOME"),
    ],
)
def test_arguments_take_the_place_of_the_command_and_options_go_to_it(
    web: tuple[str, ...], command: dict[str, Any], said: str
) -> None:
    argv = command_words(Command(**command), Artifact(key="k", location="/", web=web))
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == said + "\n"
