"""An hour without any server: what goes on, what is started again, and what a redeploy loses afterwards.

The scenario and what has to hold is `tests/e2e/outage.py`. Exits 1 unless all of it does.

    python benchmarks/static_stability.py [--minutes N] [--write]
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.databases import PostgresServer, binaries
from tests.e2e.outage import Figures, measure

RESULT = Path(__file__).parent / "static_stability.json"


def measured(minutes: float) -> Figures:
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    postgres, folder = PostgresServer(programs), Path(tempfile.mkdtemp(prefix="refloat-static-"))
    folder.chmod(0o755)
    try:
        postgres.start()
        return asyncio.run(measure(folder, postgres, minutes * 60))
    finally:
        postgres.remove()
        shutil.rmtree(folder, ignore_errors=True)


def commit() -> str:
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--minutes", type=float, default=60)
    words.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    given = words.parse_args()
    version = commit()
    figures = measured(given.minutes)
    found = {"commit": version, "minutes": given.minutes, **figures.as_dict()}
    print(json.dumps(found, indent=2))
    if given.write:
        RESULT.write_text(json.dumps(found, indent=2) + "\n")
    for complaint in figures.complaints():
        print("RED:", complaint)
    return 1 if figures.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
