"""Procfiles: which processes a repository declares, and how one line becomes an argv."""

import re
import shlex

import msgspec

from refloat.domain.errors import BuildFailed

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>.+)")
_COMPOUND = frozenset({"&&", "||", "|", "|&", ";", ";;", "&", "(", ")", "{", "}", "!"})
_SHELL_ONLY = frozenset({"cd", "exec", "export", "set", "source", ".", "if", "for", "while", "until", "case"})
_SHELL_ONLY |= {"ulimit", "umask", "trap", "eval", "command"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


class Procfile(msgspec.Struct, frozen=True):
    """The process to serve with, the command to run before it, and what was left out (by name)."""

    process: str
    web: str
    release: str = ""
    ignored: dict[str, str] = {}


def parse_procfile(text: str) -> Procfile:
    """`web` serves; without one, the only other process does (a worker). Raises BuildFailed."""
    processes: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise BuildFailed(f"line {number} of the Procfile is not `name: command`: {line[:80]!r}")
        processes[match["name"]] = match["command"].strip()
    release = processes.pop("release", "")
    process = "web" if "web" in processes or len(processes) != 1 else next(iter(processes))
    if process not in processes:
        there = ", ".join(processes) or "none"
        raise BuildFailed(f"the Procfile has no `web` process (it has {there})", hint="add `web: <command>`")
    ignored = {name: command for name, command in processes.items() if name != process}
    return Procfile(process, processes[process], release, ignored)


def shell(command: str) -> tuple[str, ...]:
    """The argv of a shell line. A simple command replaces its shell, so that signals reach it directly;
    a compound one keeps the shell, whose whole process tree is signalled by the supervisor."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise BuildFailed(f"the command {command[:80]!r} cannot be read: {error}") from error
    if not words or _COMPOUND & set(words) or words[0] in _SHELL_ONLY:
        return ("/bin/sh", "-c", command)
    prefix = "exec env " if _ASSIGNMENT.match(command) else "exec "
    return ("/bin/sh", "-c", prefix + command)
