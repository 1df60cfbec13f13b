"""The README's first screen is what `make demo` prints, numbers and ids aside."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def masked(text: str) -> list[str]:
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"plan [0-9a-f]{16}", "plan <hash>", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", text)
    kept = re.sub(r"failed: 0; steps redone: 0", "failed: none; steps redone: none", text)
    return re.sub(r" *\d+(\.\d+)?", " N", kept).strip().splitlines()


@pytest.mark.golden
def test_the_transcript_in_the_readme_is_what_the_demo_prints() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"], capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stdout + done.stderr
    readme = (ROOT / "README.md").read_text()
    shown = readme.split("$ make demo\n", 1)[1].split("```", 1)[0]
    assert masked(done.stdout) == masked(shown)
