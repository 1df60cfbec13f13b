"""Which addresses may be git sources, and how they are shown.

A URL is input from a user who may not own this machine: it is parsed strictly before git sees it,
anything that git would understand as an option or as a command is refused, and credentials are taken
out of it, so that neither a process list nor a log nor an error ever shows them.
"""

import ipaddress
import re
import socket
from urllib.parse import unquote, urlsplit

import msgspec

from refloat.domain.errors import BuildFailed

REMOTE_SCHEMES = ("https", "ssh")
LOCAL_SCHEMES = ("http", "git", "file")
HIDDEN = "***"
"""What stands where credentials were."""
_SCP = re.compile(r"(?P<user>[\w.][\w.-]*@)?(?P<host>[\w.][\w.-]*|\[[0-9a-fA-F:.]+\]):(?P<path>[^-].*)")
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@")
_WITH_USER = re.compile(r"(?P<scheme>[\w+.-]+://)(?P<user>[^/?#]*)@(?P<rest>.*)", re.DOTALL)
"""All up to the last @ of the host's part: a password may hold quotes and unquoted @ signs."""
_TOKEN_PARAMETER = re.compile(r"([?&][\w-]*(?:token|password|secret|key)=)[^&\s'\"]+", re.IGNORECASE)


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """A checked address. `url` has no credentials; `username` and `password` travel beside it.

    `path` is set for a repository on this machine, `host` for all others.
    """

    scheme: str
    url: str
    host: str = ""
    port: int = 0
    path: str = ""
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Remote({redact(self.url)!r})"

    @property
    def shown(self) -> str:
        return redact(self.url)


def redact(text: str) -> str:
    """The text without credentials: user and password of URLs, token parameters."""
    return _TOKEN_PARAMETER.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def without_credentials(url: str) -> str:
    """The address as it may be shown to whoever reads a service's configuration. The user name of an ssh
    address is no secret, and clients need it back as they wrote it."""
    match = _WITH_USER.fullmatch(url)
    if match and (match["scheme"].lower() != "ssh://" or ":" in match["user"]):
        url = f"{match['scheme']}{HIDDEN}@{match['rest']}"
    return _TOKEN_PARAMETER.sub(rf"\1{HIDDEN}", url)


def parse_remote(url: str, *, local_sources: bool) -> Remote:
    """The checked address; raises BuildFailed saying what may be used instead."""
    if not url or re.search(r"[\x00-\x20\x7f]", url) or url.startswith("-"):
        raise BuildFailed(f"{redact(url)!r} is not a git URL", hint=_allowed(local_sources))
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if url.startswith("/") or scheme == "file":
        return _on_this_machine(url, local_sources)
    if scheme in REMOTE_SCHEMES or (scheme in LOCAL_SCHEMES and local_sources):
        return _over_network(url, scheme, local_sources)
    if not scheme and "::" not in url and (match := _SCP.fullmatch(url)):
        host = match["host"].strip("[]")
        _refuse_private(host, local_sources)
        return Remote(scheme="ssh", url=url, host=host, port=22)
    raise BuildFailed(f"the scheme of {redact(url)!r} is refused", hint=_allowed(local_sources))


def relative_remote(parent: Remote, url: str, *, local_sources: bool) -> Remote:
    """The address of a submodule: `./x` and `../x` are relative to the parent, with its credentials."""
    if not url.startswith(("./", "../")):
        return parse_remote(url, local_sources=local_sources)
    base = parent.url.rstrip("/")
    while url.startswith(("./", "../")):
        step, url = url.split("/", 1)
        if step == "..":
            cut = max(base.rfind("/"), base.rfind(":") + 1)
            base = base[:cut]
    joined = base + url if base.endswith((":", "/")) else f"{base}/{url}"
    child = parse_remote(joined, local_sources=local_sources)
    if child.host != parent.host:
        raise BuildFailed(f"the submodule URL {redact(joined)!r} leaves the host of its repository")
    return msgspec.structs.replace(child, username=parent.username, password=parent.password)


def addresses(remote: Remote, *, local_sources: bool) -> tuple[str, ...]:
    """What the host resolves to now; raises BuildFailed when one of them is private and that is refused.

    git is told to use these very addresses, so that a second answer of the resolver cannot differ.
    """
    try:
        found = socket.getaddrinfo(remote.host, remote.port or None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise BuildFailed(
            f"{remote.shown} cannot be reached: the host {remote.host!r} is unknown",
            hint="check the spelling of the URL and the resolver of this machine",
        ) from error
    hosts = tuple(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))
    for host in hosts:
        _refuse_private(host, local_sources)
    return hosts


def check_branch(name: str) -> str:
    """The name when git would accept it as a branch or tag; raises BuildFailed otherwise."""
    bad = (
        name.startswith(("-", "/", "."))
        or name.endswith(("/", ".", ".lock"))
        or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|/\.|@\{", name)
        or not 0 < len(name.encode()) <= 250
    )
    if bad:
        raise BuildFailed(f"{name[:250]!r} is not a valid name of a branch or tag")
    return name


def _on_this_machine(url: str, local_sources: bool) -> Remote:
    path = url if url.startswith("/") else unquote(urlsplit(url).path)
    if not local_sources:
        raise BuildFailed(f"{redact(url)!r} is refused: local repositories are not allowed here", hint=_OPEN)
    if not path.startswith("/") or (
        url.startswith("file:") and urlsplit(url).netloc not in ("", "localhost")
    ):
        raise BuildFailed(f"{redact(url)!r} is not an absolute path", hint="write file:///srv/repository")
    return Remote(scheme="file", url=f"file://{path}", path=path)


def _over_network(url: str, scheme: str, local_sources: bool) -> Remote:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError as error:
        raise BuildFailed(f"{redact(url)!r} is not a git URL: {error}") from error
    if not re.fullmatch(r"[\w.][\w.-]*|[0-9a-fA-F:.]+", host) or not parts.path.strip("/"):
        raise BuildFailed(f"{redact(url)!r} names no host and repository", hint=_allowed(local_sources))
    _refuse_private(host, local_sources)
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    if scheme == "ssh" and parts.username:
        if not re.fullmatch(r"[\w.][\w.-]*", parts.username):
            raise BuildFailed("the user name in the ssh URL is refused")
        place = f"{parts.username}@{place}"
    query = f"?{parts.query}" if parts.query else ""
    web = scheme in ("http", "https")
    credentials = [unquote(part or "") if web else "" for part in (parts.username, parts.password)]
    if any(re.search(r"[\x00-\x1f\x7f]", part) for part in credentials):
        raise BuildFailed("the credentials in the URL hold control characters")
    return Remote(
        scheme=scheme,
        url=f"{scheme}://{place}{parts.path}{query}",
        host=host,
        port=port or {"https": 443, "http": 80, "ssh": 22, "git": 9418}[scheme],
        username=credentials[0],
        password=credentials[1],
    )


def _refuse_private(host: str, local_sources: bool) -> None:
    if local_sources:
        return
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":
        raise BuildFailed(f"{host!r} is refused: it is this machine", hint=_OPEN)
    try:
        address = ipaddress.ip_address(_numeric(host))
    except ValueError:
        return
    mapped = getattr(address, "ipv4_mapped", None) or address
    if not mapped.is_global or mapped.is_multicast:
        raise BuildFailed(f"{host!r} is refused: it is a private or loopback address", hint=_OPEN)


def _numeric(host: str) -> str:
    """The dotted form of what the C library also takes for an IPv4 address: `127.1`, `0x7f000001`."""
    if re.fullmatch(r"[0-9a-fA-FxX.]+", host) and any(c.isdigit() for c in host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return host
    return host


_OPEN = "REFLOAT_LOCAL_SOURCES=true allows local paths and private addresses on this server"


def _allowed(local_sources: bool) -> str:
    base = "use https://host/repository, ssh://git@host/repository or git@host:repository"
    return f"{base}, file:///path, an absolute path, http:// or git://" if local_sources else base
