"""Programs of the machine that some tests need, and a newcomer's may not have."""

import os
import shutil

import pytest

MUST_RUN = os.environ.get("REFLOAT_TESTS_MUST_NOT_SKIP") == "1"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip without them, saying so; in CI, where they are installed, fail."""
    missing = ", ".join(it for it in programs if shutil.which(it) is None)
    return pytest.mark.skipif(bool(missing) and not MUST_RUN, reason=f"not installed here: {missing}")
