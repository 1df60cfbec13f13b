"""Run in a network of its own: a public domain on ports 80 and 443, certified by an ACME server that
really asks back. Nothing leaves this machine, and nothing of it is in the way."""

import asyncio
import fcntl
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from refloat.routers.caddy import find_caddy
from refloat.routers.caddy.processes import ACCOUNT
from refloat.supervisor.processes import LocalSupervisor
from tests.e2e.installation import TOKEN, Installation, Repository, eventually

DOMAIN = "apps.example.org"
CA_PORT = 9443
_UP, _SET_FLAGS = 0x41, 0x8914


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def answer_names(folder: Path) -> None:
    """A name server for which every name is this machine, and which everybody here asks."""
    asked = folder / "resolv.conf"
    asked.write_text("nameserver 127.0.0.1\n")
    subprocess.run(["mount", "--bind", str(asked), "/etc/resolv.conf"], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        while True:
            query, client = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5
            wants_ipv4 = query[end - 4 : end - 2] == b"\0\1"
            record = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x7f\0\0\1" if wants_ipv4 else b""
            counts = struct.pack("!4H", 1, int(wants_ipv4), 0, 0)
            server.sendto(query[:2] + b"\x81\x80" + counts + query[12:end] + record, client)

    threading.Thread(target=serve, daemon=True).start()


def start_authority(folder: Path) -> tuple["subprocess.Popen[bytes]", Path]:
    """An ACME server, and the root of what it issues (itself included)."""
    issue = {"handler": "acme_server", "ca": "local", "host": f"127.0.0.1:{CA_PORT}"}
    server = {
        "listen": [f"127.0.0.1:{CA_PORT}"],
        "routes": [{"handle": [issue]}],
        "tls_connection_policies": [{"default_sni": "127.0.0.1"}],
        "automatic_https": {"disable": True},
    }
    policy = {"subjects": ["127.0.0.1"], "issuers": [{"module": "internal"}]}
    config = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "storage": {"module": "file_system", "root": str(folder)},
        "apps": {
            "http": {"servers": {"ca": server}},
            "tls": {
                "certificates": {"automate": ["127.0.0.1"]},
                "automation": {"policies": [policy]},
            },
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [find_caddy().path, "run", "--config", str(folder / "config.json")],
            env={"HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    root = folder / "pki" / "authorities" / "local" / "root.crt"
    directory = f"https://127.0.0.1:{CA_PORT}/acme/local/directory"

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        return root.exists() and bool(run("curl", "-sf", "--cacert", str(root), directory))

    try:
        eventually(answers)
    except AssertionError as error:
        process.kill()
        said = run("ss", "-tln"), (folder / "log").read_text()
        raise AssertionError(f"the authority does not answer: {said}") from error
    return process, root


def copied(caddy: Path) -> Path:
    """Where everybody may run it, whatever the folders above the real one allow."""
    shutil.copy(find_caddy().path, caddy)
    caddy.chmod(0o755)
    return caddy


def run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stdout


class Public(Installation):
    """On the default ports of a public domain."""

    def environ(self, **more: str) -> dict[str, str]:
        found = super().environ(**more)
        del found["REFLOAT_HTTP_PORT"]
        return found


def scenario(installation: Public, root: Path, folder: Path) -> None:
    environment = installation.environment()
    application = installation.application(environment, "web", Repository(folder / "git").url)
    domain = {"domain": "shop.example.com", "generate_certificate": True}
    installation.call("POST", f"/application/{application}/customDomain", domain)
    ended = installation.roll(environment)
    assert ended["state"] == "DEPLOYED", (ended, installation.log_text(environment))
    links = installation.call("GET", f"/application/{application}/link")["results"]
    urls = [link["url"] for link in links]
    assert [url.rpartition(".")[0].partition(".")[2] for url in urls] == ["apps.example", "example"], urls
    for url in urls:
        assert public(root, url) == "hello"
        assert f"Location: {url}/x?y=1" in public(root, f"{url}/x?y=1".replace("https", "http"), "--head")
    organizations = public(
        root, f"https://api.{DOMAIN}/organization", "--header", f"Authorization: Token {TOKEN}"
    )
    assert json.loads(organizations)["results"][0]["name"] == "default"
    stranger = run("curl", "-sS", "--cacert", str(root), "https://x.example.com")
    assert stranger == "", "a stranger's name gets no certificate, so no answer"
    assert rights(installation) == (str(ACCOUNT), "0000000000000400"), "it may open low ports, and no more"
    kept = {path.name for path in (installation.node / "edge" / "storage").rglob("*.crt")}
    wanted = {"shop.example.com.crt", f"api.{DOMAIN}.crt", f"{urls[0].removeprefix('https://')}.crt"}
    assert wanted <= kept and not any("x.example.com" in name for name in kept), kept


def rights(installation: Public) -> tuple[str, str]:
    """The user that the edge runs as, and the capabilities it has."""
    state = asyncio.run(LocalSupervisor(installation.node).state("edge"))
    assert state is not None
    lines = Path(f"/proc/{state.pid}/status").read_text().splitlines()
    found = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return found["Uid"][1], found["CapEff"][0]


def public(root: Path, url: str, *options: str) -> str:
    """What the public gets who trusts this authority and no other."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--cacert", str(root), *options, url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (url, done.stderr)
    return done.stdout


def main(folder: Path) -> None:
    bring_loopback_up()
    answer_names(folder)
    authority, root = start_authority(folder / "authority")
    settings: dict[str, Any] = {
        "REFLOAT_DOMAIN": DOMAIN,
        "REFLOAT_ACME_DIRECTORY": f"https://127.0.0.1:{CA_PORT}/acme/local/directory",
        "REFLOAT_ACME_ROOTS": str(root),
        "REFLOAT_ACME_EMAIL": "operator@example.org",
        "REFLOAT_LOCAL_SOURCES": "true",
        "REFLOAT_CADDY": str(copied(folder / "caddy")),
    }
    installation = Public(folder, **settings)
    try:
        installation.start()
        scenario(installation, root, folder)
    finally:
        asyncio.run(installation.remove())
        authority.kill()
        authority.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
