"""Guarantees against repositories made to do harm: they are refused, and nothing of them runs or is read."""

import subprocess
from pathlib import Path

import pytest
from source_support import Repository

from refloat.builders.checkout import Checkout, Tree
from refloat.builders.source import Sources
from refloat.domain.errors import BuildFailed
from refloat.domain.services import GitSource


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


async def written(
    tmp_path: Path,
    source: GitSource,
    commit: str,
    *,
    strangers_may: bool = True,
    size_limit: int = 100_000_000,
) -> tuple[str, ...]:
    """`strangers_may`: local sources are on for what the repository itself names."""
    sources = Sources(tmp_path / "node", local_sources=True, size_limit=size_limit)
    async with sources.opened("svc", source) as (git, remote):
        await sources.require(git, remote, commit)
        checkout = Checkout(sources, git, local_sources=strangers_may)
        return await checkout.write(Tree(remote, commit, source.root_path, tmp_path / "out"))


def commit_of_trees(repository: Repository, levels: int, width: int) -> str:
    """A few objects that stand for `width` ** `levels` files."""

    def made(*words: str, given: str) -> str:
        done = subprocess.run(
            ("git", *words), cwd=repository.path, input=given, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    id, mode, kind = made("hash-object", "-w", "--stdin", given="x"), "100644", "blob"
    for _ in range(levels):
        id = made("mktree", given="".join(f"{mode} {kind} {id}\tf{n}\n" for n in range(width)))
        mode, kind = "040000", "tree"
    repository.git("update-ref", "refs/heads/main", repository.git("commit-tree", "-m", "many", id))
    return repository.git("rev-parse", "main")


async def test_a_commit_of_endlessly_many_files_is_refused_while_it_is_listed(
    repository: Repository, tmp_path: Path
) -> None:
    commit = commit_of_trees(repository, levels=10, width=16)
    with pytest.raises(BuildFailed, match="larger than this server accepts"):
        await written(tmp_path, repository.source(), commit)
    assert not list((tmp_path / "out").iterdir())


async def test_a_file_that_is_small_only_when_packed_is_refused_unwritten(
    repository: Repository, tmp_path: Path
) -> None:
    with (repository.path / "zeros").open("wb") as file:
        file.truncate(40_000_000)
    commit = repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="larger than this server accepts"):
        await written(tmp_path, repository.source(), commit, size_limit=20_000_000)
    assert not list((tmp_path / "out").iterdir())


async def test_the_bound_holds_for_a_commit_and_its_submodules_together(
    repository: Repository, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    library.commit({"big": "x" * 60_000})
    for name in ("one", "two"):
        repository.git("submodule", "--quiet", "add", "../library", name)
    commit = repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="larger than this server accepts"):
        await written(tmp_path, repository.source(), commit, size_limit=100_000)


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/lib",
        "https://169.254.169.254/latest",
        "ssh://git@10.0.0.1/lib",
        "git@192.168.0.1:lib",
        "http://github.com/a/b",
        "file:///srv/secret",
        "/srv/secret",
    ],
)
async def test_a_submodule_at_a_private_address_is_refused_where_local_sources_are_off(
    repository: Repository, tmp_path: Path, url: str
) -> None:
    commit = with_submodule(repository, url)
    with pytest.raises(BuildFailed, match=r"submodule 'lib'.*refused"):
        await written(tmp_path, repository.source(), commit, strangers_may=False)


async def test_a_submodule_of_a_strangers_repository_names_no_local_path(
    repository: Repository, tmp_path: Path
) -> None:
    """Though the owner of the server may deploy from local paths."""
    commit = with_submodule(repository, "/srv/secret")
    sources = Sources(tmp_path / "node", local_sources=True)
    async with sources.opened("svc", repository.source()) as (git, remote):
        await sources.require(git, remote, commit)
        async with sources.opened("other", GitSource(url="https://github.com/a/b")) as (_, elsewhere):
            checkout = Checkout(sources, git, local_sources=True)
            with pytest.raises(BuildFailed, match=r"submodule 'lib'.*refused"):
                await checkout.write(Tree(elsewhere, commit, "/", tmp_path / "out"))


@pytest.mark.parametrize("place", ["url", "branch", "update"])
async def test_nothing_in_gitmodules_runs(repository: Repository, tmp_path: Path, place: str) -> None:
    trap = tmp_path / "trap"
    library = Repository(tmp_path / "library")
    pinned = library.commit({"lib": "1"})
    evil = {
        "url": f"--upload-pack=touch${{IFS}}{trap}",
        "branch": f"--upload-pack=touch {trap}",
        "update": f"!touch {trap}",
    }
    values = {"path": "lib", "url": str(library.path), place: evil[place]}
    commit = with_submodule(repository, pinned=pinned, **values)
    if place == "url":
        with pytest.raises(BuildFailed, match="submodule 'lib'"):
            await written(tmp_path, repository.source(), commit)
    else:
        assert "lib/lib" in await written(tmp_path, repository.source(), commit)
    assert not trap.exists()


def with_submodule(
    repository: Repository, url: str, path: str = "lib", pinned: str = "1" * 40, **more: str
) -> str:
    values = {"path": path, "url": url, **more}
    text = '[submodule "lib"]\n' + "".join(f"\t{key} = {value}\n" for key, value in values.items())
    (repository.path / ".gitmodules").write_text(text)
    repository.git("add", ".gitmodules")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{pinned},{path}")
    repository.git("commit", "--quiet", "--message", "a submodule")
    return repository.git("rev-parse", "HEAD")


async def test_a_link_out_of_the_root_path_into_the_rest_of_the_commit_is_refused(
    repository: Repository, tmp_path: Path
) -> None:
    (repository.path / "api").mkdir()
    (repository.path / "api/link").symlink_to("../other/secret")
    commit = repository.commit({"other/secret": "1", "api/a": "1"})
    with pytest.raises(BuildFailed, match="leads out of the root path"):
        await written(tmp_path, repository.source(root_path="/api"), commit)


async def test_a_root_path_that_is_a_link_is_not_followed(repository: Repository, tmp_path: Path) -> None:
    (repository.path / "api").symlink_to("/etc")
    commit = repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match="not a folder"):
        await written(tmp_path, repository.source(root_path="/api"), commit)


async def test_a_branch_of_any_name_is_data_to_git(repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"a": "1"})
    for name in ("upload-pack=touch", "$(touch;trap)", "`id`", "a;b", "a'b"):
        repository.git("branch", name)
        sources = Sources(tmp_path / "node", local_sources=True)
        assert (await sources.resolve("svc", repository.source(name))).id == commit


def written_tree(repository: Repository, *entries: tuple[str, str, str]) -> str:
    """A tree of these (mode, name, id), in this order and unchecked, as git itself would never write it."""
    raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(id) for mode, name, id in entries)
    words = ("git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin")
    done = subprocess.run(words, cwd=repository.path, input=raw, check=True, capture_output=True)
    return done.stdout.decode().strip()


def blob(repository: Repository, text: str) -> str:
    words = ("git", "hash-object", "-w", "--stdin")
    done = subprocess.run(words, cwd=repository.path, input=text, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("path", ["lib", "lib/sub"])
async def test_a_submodule_is_not_written_through_a_link_of_its_name(
    repository: Repository, tmp_path: Path, path: str, order: int
) -> None:
    """The tree has the name twice: as a link out of it, and as the submodule or the folder that holds it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    library = Repository(tmp_path / "library")
    pinned = library.commit({"planted": "1"})
    text = f'[submodule "lib"]\n\tpath = {path}\n\turl = {library.path}\n'
    inner = ("160000", "lib", pinned)
    if path == "lib/sub":
        inner = ("40000", "lib", written_tree(repository, ("160000", "sub", pinned)))
    link = ("120000", "lib", blob(repository, str(outside)))
    both = [link, inner][::order]
    top = written_tree(repository, ("100644", ".gitmodules", blob(repository, text)), *both)
    commit = repository.git("commit-tree", "-m", "twice", top)
    repository.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(BuildFailed, match="'lib'"):
        await written(tmp_path, repository.source(), commit)
    assert not list(outside.iterdir())


async def test_a_submodule_that_holds_a_link_out_of_the_commit_is_refused(
    repository: Repository, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    (library.path / "link").symlink_to("../../secret")
    library.commit({"a": "1"})
    repository.git("submodule", "--quiet", "add", "../library", "lib")
    commit = repository.commit({"a": "1"})
    with pytest.raises(BuildFailed, match=r"'lib/link' leads out"):
        await written(tmp_path, repository.source(), commit)
