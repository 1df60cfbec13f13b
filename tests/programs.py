"""Programs of the machine that some tests need, and a newcomer's may not have."""

import os
import shutil
from pathlib import Path

import pytest

MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip without them, saying so; in CI, where they are installed, fail."""
    missing = ", ".join(it for it in programs if shutil.which(it) is None)
    return pytest.mark.skipif(bool(missing) and not MUST_RUN, reason=f"not installed here: {missing}")


_CLOSED = next((it for it in Path(__file__).parents if not it.stat().st_mode & 0o001), None)
for_others = pytest.mark.skipif(
    _CLOSED is not None and not MUST_RUN, reason=f"other users cannot pass through {_CLOSED}"
)
"""Run by another user, who has to read this checkout; one in root's home is closed to everybody else."""
