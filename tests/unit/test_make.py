"""`make`, on a machine that lacks what it needs, says what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("lacks", "words"),
    [
        ("version_info", "Python 3.11 or newer is needed: PYTHON=/path/to/python3 make"),
        ("ensurepip", "Python's venv is missing: apt-get install python3-venv"),
    ],
)
def test_a_python_that_is_too_old_or_incomplete_is_told_before_anything_is_made(
    lacks: str, words: str, tmp_path: Path
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{lacks}*) exit 1;; esac\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "demo", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode and words in done.stdout
    assert not (tmp_path / ".venv").exists()
