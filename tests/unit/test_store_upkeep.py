"""``Store.verify`` finds what is broken; ``remove`` and ``sweep`` may die anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from unit.runs import BIG, Interrupted, Writing, interrupt_after, make_run

from ckpt.errors import CorruptionError, RunNotFoundError
from ckpt.format.names import RunNames
from ckpt.format.segment import FRAME_OVERHEAD, HEADER_SIZE
from ckpt.history import history_of
from ckpt.log import read_log
from ckpt.recovery import find_resume_point
from ckpt.root import StoreRoot
from ckpt.store import Finding, Store

MEMORY = "memory://upkeep-{}"


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "local" else MEMORY.format(tmp_path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


def serious(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.serious]


def keys(url: str | Path) -> list[str]:
    return [key for key in StoreRoot.open(url).storage.list("") if "/" in key]


def test_a_good_store_has_no_findings(url: str) -> None:
    for run_id in ("a", "b"):
        make_run(url, run_id=run_id)
    assert Store(url).verify() == []


def test_every_flipped_byte_is_found(folder: Path) -> None:
    make_run(folder, status=None)
    files = [path for path in folder.glob("sim/*/*/*") if path.is_file()]
    assert {path.suffix for path in files} == {".log", ".pack"}
    for path in files:
        good = path.read_bytes()
        for at in range(0, len(good), 97):
            broken = bytearray(good)
            broken[at] ^= 16
            path.write_bytes(broken)
            found = serious(Store(folder).verify("sim"))
            assert found, f"byte {at} of {path.name}"
            assert any(finding.path == str(path.relative_to(folder)) or not finding.path for finding in found), found
        path.write_bytes(good)
    assert Store(folder).verify() == []


@pytest.mark.parametrize("later", [0, 1])
def test_a_missing_pack_of_a_kept_checkpoint_is_a_problem_that_names_it(folder: Path, later: int) -> None:
    make_run(folder, status=None)
    add_checkpoints(folder, later)
    (pack,) = folder.glob("sim/aaaa/pack/*.pack")
    pack.unlink()
    found = serious(Store(folder).verify())
    assert [finding.path for finding in found] == [str(pack.relative_to(folder))]
    assert "missing" in found[0].what


def add_checkpoints(folder: Path, count: int) -> None:
    writing = Writing.start(folder)
    for index in range(count):
        writing.checkpoint(5 + index)
    writing.end()


def test_packs_that_retention_has_let_go_of_are_not_missed(folder: Path) -> None:
    make_run(folder, status=None)
    add_checkpoints(folder, 2)
    (pack,) = folder.glob("sim/aaaa/pack/*.pack")
    pack.unlink()
    assert serious(Store(folder).verify()) == []


def test_a_finished_run_needs_its_result_only(folder: Path) -> None:
    make_run(folder)
    assert Store(folder).sweep().keys == ("sim/aaaa/pack/1-0.pack",)
    assert Store(folder).verify() == []


def test_a_missing_segment_is_a_problem(folder: Path) -> None:
    make_run(folder, status=None)
    Writing.start(folder).end("finished")
    (folder / "sim/aaaa/log/00000000000000000001.log").unlink()
    assert serious(Store(folder).verify())


def test_torn_ends_and_orphan_packs_are_notes(folder: Path) -> None:
    make_run(folder, status=None)
    (folder / "sim/aaaa/pack/1-9.pack").write_bytes(b"never named")
    log = folder / "sim/aaaa/log/00000000000000000001.log"
    log.write_bytes(log.read_bytes()[:-5])
    findings = Store(folder).verify()
    assert serious(findings) == []
    assert sorted(finding.path.rpartition("/")[2] for finding in findings) == ["00000000000000000001.log", "1-9.pack"]


def test_a_removed_run_leaves_nothing_and_others_alone(url: str) -> None:
    make_run(url)
    make_run(url, run_id="bbbb")
    theirs = [key for key in keys(url) if "bbbb" in key]
    Store(url).remove("sim/aaaa")
    assert keys(url) == theirs
    with pytest.raises(RunNotFoundError):
        Store(url).open("sim/aaaa")
    assert Store(url).verify() == []


def test_a_removed_run_starts_afresh(url: str) -> None:
    make_run(url)
    Store(url).remove("sim")
    make_run(url, status=None)
    info = Store(url).open("sim")
    assert (info.summary.status, info.summary.attempts, info.summary.checkpoints) == ("crashed", 1, 2)


def make_rich_run(url: str) -> None:
    """Two attempts, three checkpoints, two packs, finished."""
    make_run(url, status=None)
    writing = Writing.start(url)
    writing.number = 2
    writing.checkpoint(7, nbytes=BIG)
    writing.end("finished")


def interrupt_removal(url: str, calls: int) -> bool:
    """Remove the run by a process that dies before its storage call number ``calls`` + 1; whether it died."""
    store = Store(url)
    store._opened = replace(store._root, storage=interrupt_after(calls, store._root.storage))
    try:
        store.remove("sim")
    except Interrupted:
        return True
    return False


def check_half_removed(store: Store) -> None:
    """Whole, or without anything to resume from; and a sweep or a second removal ends it."""
    for run in store.list():
        info = store.open(run.address)
        if info.checkpoints:
            assert [checkpoint.number for checkpoint in info.checkpoints] == [1, 2, 3], "an older state of itself"
            assert serious(store.verify()) == []
        else:
            assert run.status in ("empty", "damaged")


def resume_point(url: str) -> object:
    """What an attempt that starts now would find."""
    root, names = StoreRoot.open(url), RunNames("sim", "aaaa")
    view = read_log(root.storage, names, root.key)
    return find_resume_point(view, history_of(view.records), names, lambda ref: [])


@pytest.mark.parametrize("again", ["remove", "sweep", "start"])
def test_a_removal_may_die_anywhere(url: str, again: str) -> None:
    calls = 0
    make_rich_run(url)
    while interrupt_removal(url, calls):
        calls += 1
        store = Store(url)
        check_half_removed(store)
        whole = any(run.checkpoints for run in store.list())
        if again == "start" and not whole and (url.startswith("/") or not serious(store.verify())):
            assert resume_point(url) is None, "nothing to resume from, and no complaint"
            make_run(url, status=None)
            assert len(store.open("sim").checkpoints) == 2, "a fresh run"
            assert serious(store.verify()) == []
        if again == "sweep":
            store.sweep()
            assert whole or keys(url) == []
        if keys(url):
            store.remove("sim")
        assert keys(url) == []
        make_rich_run(url)
    assert calls >= 6, "the removal consists of calls that can fail"
    assert keys(url) == []


def test_a_sweep_takes_orphan_packs_only(folder: Path) -> None:
    make_run(folder, status=None)
    orphan = folder / "sim/aaaa/pack/7-0.pack"
    orphan.write_bytes(b"12345")
    before = set(keys(folder))
    swept = Store(folder).sweep()
    assert swept.keys == ("sim/aaaa/pack/7-0.pack",)
    assert swept.nbytes == 5
    assert set(keys(folder)) == before - {"sim/aaaa/pack/7-0.pack"}
    assert Store(folder).verify() == []
    assert Store(folder).sweep().keys == ()


def test_a_sweep_of_a_damaged_run_deletes_nothing(folder: Path) -> None:
    """The damaged record may be the one that names the pack."""
    make_run(folder)
    log = folder / "sim/aaaa/log/00000000000000000001.log"
    data = bytearray(log.read_bytes())
    for at in range(600, len(data), 300):
        data[at] ^= 1
    log.write_bytes(data)
    before = keys(folder)
    assert Store(folder).sweep().keys == ()
    assert keys(folder) == before


def test_a_sweep_leaves_and_names_what_it_cannot_trust(folder: Path, tmp_path: Path) -> None:
    make_run(folder, status=None)
    (folder / "sim/aaaa/pack/7-0.pack").write_bytes(b"12345")
    make_run(tmp_path / "other", job="alien")
    (tmp_path / "other/alien").rename(folder / "alien")
    theirs = [key for key in keys(folder) if key.startswith("alien/")]
    swept = Store(folder).sweep()
    assert [finding.address for finding in swept.skipped] == ["alien/aaaa"]
    assert swept.keys == ("sim/aaaa/pack/7-0.pack",)
    assert [key for key in keys(folder) if key.startswith("alien/")] == theirs


def test_a_trimmed_log_whose_end_is_cut_off_between_two_records_is_a_problem_if_it_leads_nowhere(folder: Path) -> None:
    writing = Writing.start(folder)
    writing.checkpoint(1)
    writing.log.rotate()
    writing.operation()
    covers = writing.log.position
    writing.checkpoint(2)
    writing.log.trim(covers)
    writing.end()
    assert serious(Store(folder).verify()) == []
    (log,) = folder.glob("sim/aaaa/log/*.log")
    data = log.read_bytes()
    log.write_bytes(data[: HEADER_SIZE + FRAME_OVERHEAD + int.from_bytes(data[HEADER_SIZE : HEADER_SIZE + 4], "little")])
    assert [finding.what for finding in serious(Store(folder).verify()) if "nothing to resume from" in finding.what]
    with pytest.raises(CorruptionError, match="trimmed away"):
        resume_point(str(folder))
