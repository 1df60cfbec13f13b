"""A folder becomes a commit by git's own rules, byte for byte, and nothing in the folder is written."""

import os
import subprocess
from pathlib import Path

import pytest

from refloat.cli.problems import Problem
from refloat.cli.working_tree import WorkingTree

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *IDENTITY, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    write(folder, kept_dot_py="1", _dot_gitignore="*.log\n/build/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def content(tree: WorkingTree, commit: str, name: str) -> str:
    return git(Path("/"), "--git-dir", tree.url.removeprefix("file://"), "show", f"{commit}:{name}")


def listed(tree: WorkingTree, commit: str) -> set[str]:
    names = git(
        Path("/"), "--git-dir", tree.url.removeprefix("file://"), "ls-tree", "-r", "--name-only", commit
    )
    return set(names.splitlines())


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Everything below .git, with the times it was written at."""
    paths = [p for p in (folder / ".git").rglob("*") if p.is_file()]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}


def test_uncommitted_files_count_ignored_ones_do_not_and_the_repository_stays_as_it_is(
    repository: Path, data: Path
) -> None:
    write(repository, new_dot_py="2", noise_dot_log="x", build__out="x", kept_dot_py="changed")
    git(repository, "add", "new.py")
    before = state_of(repository)
    tree = WorkingTree(repository, data)
    made = tree.snapshot()
    assert made.made and listed(tree, made.commit) == {".gitignore", "kept.py", "new.py"}
    assert content(tree, made.commit, "kept.py") == "changed"
    assert state_of(repository) == before


def test_a_commit_is_made_only_when_something_differs(repository: Path, data: Path) -> None:
    tree = WorkingTree(repository, data)
    first = tree.snapshot()
    again = WorkingTree(repository, data).snapshot()
    assert (again.commit, again.made) == (first.commit, False)
    (repository / "kept.py").unlink()
    write(repository, other_dot_py="1")
    second = tree.snapshot()
    assert second.made and listed(tree, second.commit) == {".gitignore", "other.py"}


def test_a_tracked_file_counts_even_if_it_is_ignored(repository: Path, data: Path) -> None:
    write(repository, build__bundle_dot_js="1")
    git(repository, "add", "-f", "build/bundle.js")
    tree = WorkingTree(repository, data)
    assert "build/bundle.js" in tree.files()
    (repository / ".gitignore").write_text("*\n")
    tree.snapshot()
    assert set(tree.files()) == {".gitignore", "kept.py", "build/bundle.js"}


def test_a_folder_without_git_keeps_its_own_ignore_rules_and_leaves_out_what_builds_make(
    tmp_path: Path, data: Path
) -> None:
    folder = tmp_path / "plain"
    write(
        folder,
        app_dot_py="1",
        secret="x",
        _dot_gitignore="secret\n",
        sub__node_modules__m="x",
        _dot_venv__p="x",
    )
    tree = WorkingTree(folder, data)
    assert set(tree.files()) == {".gitignore", "app.py"}
    assert listed(tree, tree.snapshot().commit) == {".gitignore", "app.py"}


def test_a_folder_inside_a_repository_is_only_itself(repository: Path, data: Path) -> None:
    write(repository, services__web__app_dot_py="1", services__web__a_dot_log="x")
    tree = WorkingTree(repository / "services/web", data)
    assert tree.files() == ("app.py",)


def test_a_folder_that_its_repository_ignores_is_a_folder_without_git(repository: Path, data: Path) -> None:
    write(repository, build__site__index_dot_html="1")
    assert WorkingTree(repository / "build/site", data).files() == ("index.html",)


def test_repositories_nested_in_a_folder_are_part_of_it_by_their_own_rules(
    repository: Path, tmp_path: Path, data: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    write(inner, lib_dot_py="1", _dot_gitignore="cache\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "inner")
    git(
        repository,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(inner),
        "vendor/inner",
    )
    write(repository, vendor__inner__cache="x")
    subprocess.run(["cp", "-r", str(inner), str(repository / "loose")], check=True)
    tree = WorkingTree(repository, data)
    found = listed(tree, tree.snapshot().commit)
    assert {"vendor/inner/lib.py", "loose/lib.py"} <= found and "vendor/inner/cache" not in found


def test_a_linked_working_tree_counts_as_a_repository(repository: Path, tmp_path: Path, data: Path) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "other")
    write(tmp_path / "linked", more_dot_py="1", x_dot_log="x")
    assert set(WorkingTree(tmp_path / "linked", data).files()) == {".gitignore", "kept.py", "more.py"}


def test_files_are_stored_byte_for_byte_whatever_attributes_and_configuration_say(
    repository: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(
        '[core]\n\tautocrlf = true\n[filter "up"]\n\tclean = tr a-z A-Z\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (repository / ".gitattributes").write_text("*.txt text eol=crlf ident\n*.up filter=up\n")
    (repository / "a.txt").write_bytes(b"one\r\n$Id$\n")
    (repository / "b.up").write_bytes(b"small")
    tree = WorkingTree(repository, data)
    commit = tree.snapshot().commit
    place = ("--git-dir", tree.url.removeprefix("file://"))
    shown = subprocess.run(["git", *place, "show", f"{commit}:a.txt"], capture_output=True, check=True).stdout
    assert shown == b"one\r\n$Id$\n" and content(tree, commit, "b.up") == "small"


def test_links_modes_and_odd_names_survive(repository: Path, data: Path) -> None:
    (repository / "run.sh").write_text("#!/bin/sh\n")
    (repository / "run.sh").chmod(0o755)
    (repository / "link").symlink_to("run.sh")
    (repository / 'ü "name\n').write_text("x")
    os.mkfifo(repository / "pipe")
    tree = WorkingTree(repository, data)
    place = ("--git-dir", tree.url.removeprefix("file://"))
    shown = git(Path("/"), *place, "ls-tree", "-r", "-z", tree.snapshot().commit).split("\0")
    kinds = {entry.split("\t")[1]: entry.split()[0] for entry in shown if entry}
    assert kinds["run.sh"] == "100755" and kinds["link"] == "120000"
    assert 'ü "name\n' in kinds and "pipe" not in kinds


def test_a_folder_that_became_a_file_and_a_link_in_its_place_are_followed(
    repository: Path, data: Path
) -> None:
    write(repository, conf__a="1", lib__b="1")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "folders")
    tree = WorkingTree(repository, data)
    tree.snapshot()
    subprocess.run(["rm", "-r", str(repository / "conf"), str(repository / "lib")], check=True)
    write(repository, conf="file")
    (repository / "lib").symlink_to("/")
    assert listed(tree, tree.snapshot().commit) == {".gitignore", "kept.py", "conf", "lib"}


def test_a_data_directory_inside_the_folder_is_no_part_of_it(repository: Path) -> None:
    inside = repository / "data"
    tree = WorkingTree(repository, inside)
    tree.snapshot()
    (inside / "admin.token").write_text("secret")
    assert set(tree.files()) == {".gitignore", "kept.py"}


def test_the_snapshot_is_named_after_the_commit_it_stands_on(repository: Path, data: Path) -> None:
    tree = WorkingTree(repository, data)
    place = ("--git-dir", tree.url.removeprefix("file://"))

    def name(commit: str) -> str:
        return git(Path("/"), *place, "log", "-1", "--format=%s", commit).strip()

    head = git(repository, "rev-parse", "--short", "HEAD").strip()
    assert name(tree.snapshot().commit) == f"{head} first"
    write(repository, kept_dot_py="2")
    assert name(tree.snapshot().commit) == f"{head} first (and uncommitted changes)"


def test_variables_of_a_surrounding_git_do_not_lead_elsewhere(
    repository: Path, data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    tree = WorkingTree(repository, data)
    assert tree.snapshot().made and not (other / ".git/index").exists()


def test_a_folder_with_nothing_in_it_is_named(tmp_path: Path, data: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match=r"empty is empty"):
        WorkingTree(tmp_path / "empty", data).files()
