"""What git complains about, in words that say what is wrong and what to do."""

import re

from refloat.builders.remotes import Remote
from refloat.domain.errors import BuildFailed

_EXPLAINED = (
    (
        r"file too large|signal 25|file size limit",
        "{url} is larger than this server accepts",
        "",
    ),
    (
        r"not our ref|unadvertised object|no such remote ref|couldn't find remote ref",
        "the commit {commit} is not in {url}",
        "push it, or choose another commit",
    ),
    (
        r"transport '.*' not allowed",
        "{url} uses a scheme that is refused",
        "",
    ),
    (
        r"permission denied \(.*publickey",
        "permission denied: {url} takes none of the keys of this server's user",
        "put a key that may read it into ~/.ssh of the user that runs the server, or into its ssh-agent",
    ),
    (
        r"could not read (username|password)|authentication failed|error: 40[13]|permission denied",
        "{url} does not exist or asks for credentials",
        "check the URL, or give credentials that may read it",
    ),
    (
        r"host key verification failed",
        "the host key of {url} is not the known one",
        "remove the old key from known_hosts if the change is expected",
    ),
    (
        r"not appear to be a git repo|repository .*not found|error: 404|not a git repo|no such file",
        "there is no git repository at {url}",
        "check the URL",
    ),
    (
        r"could not resolve|couldn't connect|failed to connect|connection (refused|timed out|reset|closed)"
        r"|unable to (access|connect)|no route to host|network is unreachable|timed? ?out|redirect"
        r"|could not read from remote|early eof|hung up",
        "{url} cannot be reached",
        "check the URL and the network of this server",
    ),
)


def explain(remote: Remote, error: str, commit: str = "") -> BuildFailed:
    """git's words as ours."""
    lines = tuple(line[:500] for line in error.splitlines() if line.strip())[-10:]
    for pattern, message, hint in _EXPLAINED:
        if re.search(pattern, error.lower()):
            return BuildFailed(message.format(url=remote.shown, commit=commit), hint=hint, log=lines)
    reason = lines[-1] if lines else "no reason given"
    return BuildFailed(f"git could not read {remote.shown}: {reason}", log=lines)


def known(error: str) -> bool:
    """Whether the remote is to blame; otherwise it may be the cache."""
    return any(re.search(pattern, error.lower()) for pattern, _, _ in _EXPLAINED)


def refuses_depth(error: str) -> bool:
    """The server gives no single commits, or no shallow history: it may still give everything."""
    return bool(re.search(r"not support shallow|unadvertised object", error.lower()))
