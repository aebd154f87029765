"""What the tests of output files share: a folder and a store of their own, a checkpoint for each iteration, a death."""

from __future__ import annotations

from pathlib import Path

import pytest


class Dies(Exception):
    """The job stops here; it can be resumed."""


@pytest.fixture(autouse=True)
def here(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scratch)
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    monkeypatch.setenv("CKPT_EVERY", "1it")  # for settle(): each iteration has its checkpoint
