"""Guarantees about git sources, shown on real repositories."""

import base64
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from source_support import Repository

from refloat.builders import git as git_module
from refloat.builders.checkout import Checkout, Tree
from refloat.builders.git import Git
from refloat.builders.remotes import Remote
from refloat.builders.source import Sources
from refloat.domain.errors import BuildFailed, Unavailable
from refloat.domain.services import GitSource

ROOT = os.geteuid() == 0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path / "node", local_sources=True)


async def written(sources: Sources, source: GitSource, commit: str, folder: Path) -> tuple[str, ...]:
    async with sources.opened("svc", source) as (git, remote):
        await sources.require(git, remote, commit)
        checkout = Checkout(sources, git, local_sources=True)
        return await checkout.write(Tree(remote, commit, source.root_path, folder))


async def test_a_branch_resolves_to_its_head_with_author_date_and_message(
    repository: Repository, sources: Sources
) -> None:
    repository.commit({"a": "1"})
    head = repository.commit({"a": "2"}, "second\n\nbody")
    for source in (
        repository.source(),
        repository.source("main"),
        GitSource(url=f"file://{repository.path}"),
    ):
        found = await sources.resolve("svc", source)
        assert (found.id, found.author, found.message) == (head, "Ada", "second\n\nbody")
        assert found.created_at is not None


async def test_commits_are_found_by_full_id_short_id_and_tag(
    repository: Repository, sources: Sources
) -> None:
    first = repository.commit({"a": "1"})
    repository.git("tag", "--annotate", "v1", "--message", "one")
    repository.commit({"a": "2"})
    for name in (first, first[:8], first.upper()):
        assert (await sources.resolve("svc", repository.source(), name)).id == first
    tagged = await sources.resolve("svc", repository.source(), "v1")
    assert (tagged.id, tagged.tag) == (first, "v1")
    assert (await sources.resolve("svc", repository.source("v1"))).id == first


async def test_the_newest_commits_come_first(repository: Repository, sources: Sources) -> None:
    ids = [repository.commit({"a": str(n)}, f"change {n}") for n in range(5)]
    await sources.resolve("svc", repository.source())
    found = await sources.commits("svc", repository.source(), 3)
    assert [commit.id for commit in found] == ids[:1:-1]
    assert len(await sources.commits("svc", repository.source(), 100)) == 5


async def test_a_service_that_is_removed_while_it_is_asked_about_is_no_internal_error(
    repository: Repository, tmp_path: Path
) -> None:
    class Removed(Sources):
        async def _head(self, git: Git, remote: Remote, branch: str | None) -> tuple[str, str]:
            found = await super()._head(git, remote, branch)
            shutil.rmtree(git.home)
            return found

    repository.commit({"a": "1"})
    with pytest.raises(Unavailable, match="removed meanwhile"):
        await Removed(tmp_path / "node", local_sources=True).commits("svc", repository.source(), 3)


async def test_only_what_is_needed_is_fetched(
    repository: Repository, sources: Sources, tmp_path: Path
) -> None:
    for n in range(4):
        repository.commit({"a": str(n)})
    await sources.resolve("svc", repository.source())
    cache = tmp_path / "node/services/svc/git/cache"
    assert repository.git("--git-dir", str(cache), "rev-list", "--all", "--count") == "1"


async def test_a_missing_branch_is_named_with_the_ones_that_are_there(
    repository: Repository, sources: Sources
) -> None:
    repository.commit({"a": "1"})
    for name in "bcdefg":
        repository.git("branch", name)
    with pytest.raises(BuildFailed, match=r"no branch 'nope'.*has b, c, d, e, f and 2 more"):
        await sources.resolve("svc", repository.source("nope"))


@pytest.mark.parametrize("commit", ["0" * 40, "abcdef1", "v9"])
async def test_a_missing_commit_is_named(repository: Repository, sources: Sources, commit: str) -> None:
    repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match=f"commit '?{commit}'? is not in"):
        await sources.resolve("svc", repository.source(), commit)


async def test_a_missing_root_path_is_named_with_the_folders_that_are_there(
    repository: Repository, sources: Sources
) -> None:
    repository.commit({"api/a": "1", "web/a": "1"})
    await sources.resolve("svc", repository.source(root_path="/api/"))
    with pytest.raises(BuildFailed, match=r"root path '/app'.*api, web"):
        await sources.resolve("svc", repository.source(root_path="/app"))
    with pytest.raises(BuildFailed, match="root path"):
        await sources.resolve("svc", repository.source(root_path="/api/../.."))


async def test_an_empty_repository_says_so(repository: Repository, sources: Sources) -> None:
    for branch in (None, "main"):
        with pytest.raises(BuildFailed, match="is empty"):
            await sources.resolve("svc", repository.source(branch))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("/no/such/place", "there is no git repository at"),
        ("http://127.0.0.1:9/a.git", "cannot be reached"),
        ("https://no-such-host.invalid/a.git", "cannot be reached"),
        ("ssh://git@127.0.0.1:9/a", "cannot be reached"),
    ],
)
async def test_an_unreachable_source_is_named(sources: Sources, url: str, words: str) -> None:
    with pytest.raises(BuildFailed, match=words):
        await sources.resolve("svc", GitSource(url=url))


async def test_credentials_in_a_url_reach_neither_errors_nor_the_disk(
    sources: Sources, tmp_path: Path
) -> None:
    url = "http://user:s3cret@127.0.0.1:9/a.git"
    with pytest.raises(BuildFailed) as caught:
        await sources.resolve("svc", GitSource(url=url))
    assert "s3cret" not in f"{caught.value} {caught.value.log}"
    kept = [path for path in (tmp_path / "node").rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in kept)


class Locked(SimpleHTTPRequestHandler):
    """Plain files, for those who know the password: the oldest way to serve a repository."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(b"user:s3cret").decode()
        if self.headers.get("Authorization") == expected:
            return super().do_GET()
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def locked(repository: Repository) -> Iterator[str]:
    """Where the repository is served; the address has no credentials yet."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Locked, directory=str(repository.path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}/.git"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_credentials_of_a_url_open_its_repository_even_on_a_server_of_plain_files(
    repository: Repository, sources: Sources, locked: str
) -> None:
    head = repository.commit({"a": "1"})
    repository.git("update-server-info")
    found = await sources.resolve("svc", GitSource(url=f"http://user:s3cret@{locked}"))
    assert found.id == head
    for credentials in ("", "user:wrong@"):
        with pytest.raises(BuildFailed, match="asks for credentials") as caught:
            await sources.resolve("svc", GitSource(url=f"http://{credentials}{locked}"))
        assert "wrong" not in f"{caught.value} {caught.value.log}"


async def test_hostile_names_run_nothing(repository: Repository, sources: Sources, tmp_path: Path) -> None:
    repository.commit({"a": "1"})
    trap = tmp_path / "trap"
    tricks = [
        (GitSource(url=f"ext::sh -c touch% {trap}"), None),
        (GitSource(url=f"ext::touch%20{trap}"), None),
        (GitSource(url=f"--upload-pack=touch {trap}"), None),
        (repository.source(f"--upload-pack=touch${{IFS}}{trap}"), None),
        (repository.source(), f"--upload-pack=touch${{IFS}}{trap}"),
        (repository.source(root_path=f"/$(touch {trap})"), None),
    ]
    for source, commit in tricks:
        with pytest.raises(BuildFailed):
            await sources.resolve("svc", source, commit)
    assert not trap.exists()


async def test_a_server_without_single_commits_is_asked_for_its_history(
    repository: Repository, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(git_module.CONFIG, "protocol.version", "0")
    first = repository.commit({"a": "1"})
    head = repository.commit({"a": "2"})
    assert (await sources.resolve("svc", repository.source())).id == head
    assert (await sources.resolve("svc", repository.source(), first)).id == first


async def test_files_are_written_without_a_link_to_the_repository(
    repository: Repository, sources: Sources, tmp_path: Path
) -> None:
    files = {
        "api/run.py": "1",
        "api/deep/er": "2",
        "other": "3",
        "api/.gitattributes": "run.py export-ignore",
    }
    (repository.path / "api").mkdir()
    (repository.path / "api/link").symlink_to("deep/er")
    commit = repository.commit(files)
    paths = await written(sources, repository.source(root_path="/api"), commit, tmp_path / "out")
    assert set(paths) == {"run.py", "deep/er", ".gitattributes", "link"}
    assert (tmp_path / "out/link").read_text() == "2"
    assert (tmp_path / "out/run.py").exists()
    assert not (tmp_path / "out/.git").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node", "out", "repository"]


@pytest.mark.parametrize(
    "links",
    [{"link": "/etc/passwd"}, {"link": "../outside"}, {"d/e/s": "../..", "l": "d/e/s/../outside"}],
    ids=["absolute", "upwards", "through another link"],
)
async def test_links_that_lead_out_of_the_root_are_refused(
    repository: Repository, sources: Sources, tmp_path: Path, links: dict[str, str]
) -> None:
    for name, target in links.items():
        (repository.path / name).parent.mkdir(parents=True, exist_ok=True)
        (repository.path / name).symlink_to(target)
    commit = repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="leads out of the root path"):
        await written(sources, repository.source(), commit, tmp_path / "out")


async def test_a_commit_larger_than_the_bound_is_refused(repository: Repository, tmp_path: Path) -> None:
    small = Sources(tmp_path / "node", local_sources=True, size_limit=100_000)
    commit = repository.commit({"a": "x" * 200_000})
    with pytest.raises(BuildFailed, match="larger than this server accepts"):
        await written(small, repository.source(), commit, tmp_path / "out")


async def test_a_transfer_larger_than_the_bound_is_refused(repository: Repository, tmp_path: Path) -> None:
    small = Sources(tmp_path / "node", local_sources=True, size_limit=100_000)
    (repository.path / "noise").write_bytes(os.urandom(500_000))
    repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="larger than this server accepts"):
        await small.resolve("svc", repository.source())


async def test_submodules_are_fetched_at_their_pinned_commit(
    repository: Repository, sources: Sources, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    library.commit({"lib.py": "pinned"})
    repository.git("submodule", "--quiet", "add", "../library", "vendor/library")
    commit = repository.commit({"a": "1"})
    library.commit({"lib.py": "newer"})
    paths = await written(sources, repository.source(), commit, tmp_path / "out")
    assert "vendor/library/lib.py" in paths
    assert (tmp_path / "out/vendor/library/lib.py").read_text() == "pinned"


async def test_a_submodule_that_cannot_be_had_is_named(
    repository: Repository, sources: Sources, tmp_path: Path
) -> None:
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/library")
    repository.git("commit", "--quiet", "--message", "no .gitmodules")
    commit = repository.git("rev-parse", "HEAD")
    with pytest.raises(BuildFailed, match=r"submodule 'vendor/library' has no URL"):
        await written(sources, repository.source(), commit, tmp_path / "out")


@pytest.mark.skipif(not ROOT, reason="only root meets repositories of others")
async def test_a_repository_of_another_user_works(repository: Repository, sources: Sources) -> None:
    head = repository.commit({"a": "1"})
    for path in (repository.path, *repository.path.rglob("*")):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    assert (await sources.resolve("svc", repository.source())).id == head
