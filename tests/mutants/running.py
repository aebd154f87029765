"""Makes a mutant of the installed package, in a folder of its own, and runs a test against it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import ckpt
from mutants.mutant import Mutant

PACKAGE = Path(ckpt.__file__).parent
ROOT = Path(__file__).parents[2]
LIMIT_S = 250


def make(mutant: Mutant, folder: Path) -> None:
    """``folder/ckpt`` is the package with that one line changed. ValueError if the line is not there exactly once."""
    shutil.copytree(PACKAGE, folder / "ckpt", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "ckpt" / mutant.file
    text = path.read_text()
    if text.count(mutant.line) != 1:
        raise ValueError(f"{mutant.file} has the line of {mutant.name!r} {text.count(mutant.line)} times:\n{mutant.line}")
    path.write_text(text.replace(mutant.line, mutant.instead))


def run_test(mutant: Mutant, folder: Path) -> subprocess.CompletedProcess[str]:
    """The mutant's test, against the package in ``folder``."""
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-p", "no:cacheprovider", *mutant.where.split(), "-k", mutant.test]
    # Not what a parallel run of the tests asks of its own processes.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = own | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CKPT_TEST_MUTANT": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
