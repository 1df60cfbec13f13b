"""Guarantees about addresses: what may be a git source, and that credentials never show."""

import pytest

from refloat.builders.remotes import addresses, check_branch, parse_remote, redact, relative_remote
from refloat.domain.errors import BuildFailed


@pytest.mark.parametrize(
    ("url", "scheme", "shown"),
    [
        ("https://github.com/a/b.git", "https", "https://github.com/a/b.git"),
        ("https://github.com:8443/a", "https", "https://github.com:8443/a"),
        ("ssh://git@github.com/a/b", "ssh", "ssh://***@github.com/a/b"),
        ("git@github.com:a/b.git", "ssh", "git@github.com:a/b.git"),
        ("/srv/a b".replace(" ", "-"), "file", "file:///srv/a-b"),
        ("file:///srv/a", "file", "file:///srv/a"),
        ("http://10.0.0.1/a", "http", "http://10.0.0.1/a"),
        ("git://localhost/a", "git", "git://localhost/a"),
    ],
)
def test_usual_addresses_are_accepted_where_local_sources_are(url: str, scheme: str, shown: str) -> None:
    remote = parse_remote(url, local_sources=True)
    assert (remote.scheme, remote.shown) == (scheme, shown)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c id",
        "ext::sh",
        "--upload-pack=touch",
        "-oProxyCommand=id",
        "https://",
        "https://host",
        "https://-host/a",
        "ssh://-oProxyCommand=id/a",
        "ssh://-x@host/a",
        "git@-host:a",
        "git@host:-a",
        "ftp://host/a",
        "fd::17",
        "relative/path",
        "https://host/a\nb",
        "https://host:port/a",
        "file://host/a",
        "https://a:b%0Apath=x@host/a",
    ],
)
def test_what_git_could_take_for_an_option_or_a_command_is_refused(url: str) -> None:
    with pytest.raises(BuildFailed):
        parse_remote(url, local_sources=True)


@pytest.mark.parametrize(
    "url",
    [
        "/srv/repository",
        "file:///srv/repository",
        "http://github.com/a/b",
        "git://github.com/a/b",
        "https://127.0.0.1/a",
        "https://127.1/a",
        "https://2130706433/a",
        "https://0x7f000001/a",
        "https://10.1.2.3/a",
        "https://192.168.1.1/a",
        "https://169.254.169.254/latest",
        "https://[::1]/a",
        "https://[::ffff:127.0.0.1]/a",
        "https://[fd00::1]/a",
        "https://localhost/a",
        "https://x.localhost/a",
        "git@10.0.0.1:a",
        "ssh://git@127.0.0.1/a",
        "https://0.0.0.0/a",
    ],
)
def test_local_and_private_addresses_are_refused_without_local_sources(url: str) -> None:
    with pytest.raises(BuildFailed, match="refused"):
        parse_remote(url, local_sources=False)


def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("192.168.0.7", 443))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **more: answer)
    remote = parse_remote("https://rebound.example/a", local_sources=False)
    with pytest.raises(BuildFailed, match=r"192\.168\.0\.7"):
        addresses(remote, local_sources=False)


def test_credentials_are_taken_out_of_the_address() -> None:
    remote = parse_remote("https://user:s3%40cret@host/a?x=1", local_sources=False)
    assert remote.url == "https://host/a?x=1"
    assert (remote.username, remote.password) == ("user", "s3@cret")
    assert "s3" not in repr(remote) + remote.shown


def test_errors_about_an_address_do_not_show_its_credentials() -> None:
    with pytest.raises(BuildFailed) as caught:
        parse_remote("ftp://user:s3cret@host/a", local_sources=True)
    assert "s3cret" not in str(caught.value)


def test_redaction_covers_user_information_and_token_parameters() -> None:
    text = "fatal: https://u:p@h/a and https://h/a?private_token=abc&x=1 and ssh://git@h/a"
    assert redact(text) == "fatal: https://***@h/a and https://h/a?private_token=***&x=1 and ssh://***@h/a"


@pytest.mark.parametrize(
    ("parent", "url", "expected"),
    [
        ("https://h/group/app.git", "../lib.git", "https://h/group/lib.git"),
        ("https://h/group/app", "./sub", "https://h/group/app/sub"),
        ("git@h:group/app", "../lib", "git@h:group/lib"),
        ("git@h:app", "../lib", "git@h:lib"),
        ("file:///srv/app", "../lib", "file:///srv/lib"),
        ("https://h/app", "https://other/lib", "https://other/lib"),
    ],
)
def test_submodule_addresses_are_relative_to_their_repository(parent: str, url: str, expected: str) -> None:
    base = parse_remote(parent, local_sources=True)
    assert relative_remote(base, url, local_sources=True).url == expected


def test_a_submodule_gets_the_credentials_only_when_it_is_relative() -> None:
    base = parse_remote("https://u:p@h/group/app", local_sources=False)
    assert relative_remote(base, "../lib", local_sources=False).password == "p"
    assert relative_remote(base, "https://other/lib", local_sources=False).password == ""


@pytest.mark.parametrize(
    "name",
    ["", "--upload-pack=x", "-b", "a b", "a..b", "a~1", "a:b", "a\nb", "x.lock", "/a", "a/", "@{1}", "a*"],
)
def test_names_that_git_would_not_accept_are_refused(name: str) -> None:
    with pytest.raises(BuildFailed, match="not a valid name"):
        check_branch(name)


@pytest.mark.parametrize("name", ["main", "feature/x-1", "v1.2.3", "release@2", "ünïcode"])
def test_usual_branch_names_are_accepted(name: str) -> None:
    assert check_branch(name) == name
