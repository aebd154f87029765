"""Golden stores of every format version: read without a complaint or a change, resumed to the very result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from crash.harness import ForkHost, Form

from ckpt.store import Store

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
STORES = sorted(path.parent for path in GOLDEN.glob("v*/*/expected.json"))


def open_store(golden: Path, store: Path) -> Store:
    """The store, with the key that everybody knows where it has that one."""
    return Store(store, key="0" * 64, unsigned=True) if "unsigned" in golden.name else Store(store)


def short(folder: Path) -> str:
    return f"{folder.parent.name}-{folder.name}"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy(golden: Path, folder: Path) -> Path:
    """A copy to work on; a repository does not keep that the key is private."""
    shutil.copytree(golden / "store", folder / "store")
    if (folder / "store" / "key").exists():
        (folder / "store" / "key").chmod(0o600)
    return folder / "store"


def test_there_are_golden_stores() -> None:
    assert len(STORES) >= 9


@pytest.mark.filterwarnings("ignore:the store .* is unsigned")
@pytest.mark.parametrize("golden", STORES, ids=short)
def test_looking_at_a_golden_store_changes_nothing_and_finds_nothing_wrong(golden: Path, tmp_path: Path) -> None:
    store = copy(golden, tmp_path)
    before = files(store)
    expected = json.loads((golden / "expected.json").read_text())
    assert not [finding for finding in open_store(golden, store).verify() if finding.serious]
    (run,) = open_store(golden, store).list()
    assert run.status == ("finished" if expected["finished"] else "crashed")
    info = open_store(golden, store).open(run.address)
    assert bool(info.torn) == ("torn" in golden.name)
    assert files(store) == before


@pytest.mark.parametrize("golden", STORES, ids=short)
def test_a_golden_run_ends_with_its_result(golden: Path, tmp_path: Path, fork_host: ForkHost) -> None:
    copy(golden, tmp_path)
    expected = json.loads((golden / "expected.json").read_text())
    attempt = Form(fork_host, expected["form"], tmp_path).run()
    assert attempt.status == 0, attempt.err
    assert attempt.result == expected["result"]
    said = "finished earlier" if expected["finished"] else "resumed "
    assert said in attempt.err, attempt.err
