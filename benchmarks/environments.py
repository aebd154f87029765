"""Environments of the peers: one for each set of pinned packages, made with venv and pip the first time it is wanted.

They lie below ``CKPT_BENCHMARK_PEERS``, by default ``ckpt-benchmarks`` in the user's cache folder, and are used again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_S = 600
TORCH_CPU = "https://download.pytorch.org/whl/cpu"


class CannotInstall(Exception):
    """Why an environment is not there."""


def place() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CKPT_BENCHMARK_PEERS") or cache / "ckpt-benchmarks")


def python_with(packages: Sequence[str], *, install: bool) -> Path:
    """The interpreter of an environment that has exactly ``packages`` (``name==version``). CannotInstall.

    ``install``: make it if it is not there yet.
    """
    known = hashlib.sha256("\n".join([sys.version, *sorted(packages)]).encode()).hexdigest()[:12]
    folder = place() / known
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    if not install:
        raise CannotInstall(f"{', '.join(packages)}: not installed yet; a run without --quick installs it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        _run([*pip, *(f"{one}+cpu" if one.startswith("torch==") else one for one in packages)])
    except CannotInstall:
        if not any(one.startswith("torch==") for one in packages):
            raise
        _run([*pip, "--extra-index-url", TORCH_CPU, *packages])
    (folder / "complete").touch()
    return python


def _run(command: list[str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_S, env=environ)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{command[-1]}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise CannotInstall(f"{command[-1]}: {last}")
