"""A fork shares packs with its origin: no byte is copied, and each run goes its own way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from unit.test_storage_local import journal, storage
from unit.test_store_branching import Dies, died, grow, here, kept, plain, store

from ckpt.errors import CorruptionError, OptionError
from ckpt.storage.local import LocalStorage
from ckpt.store import Store

__all__ = ["here", "journal", "storage", "store"]  # fixtures


def packs(where: str | Path, run_id: str) -> list[Path]:
    return sorted((Path(where) / "grow" / run_id / "pack").glob("*.pack"))


def goes_on(run_id: str) -> Any:
    return grow.options(run_id=run_id)(10)


def test_a_fork_takes_no_room_of_its_own(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    died()
    store = Store(scratch / "store")
    before = {pack.stat().st_ino: pack.read_bytes() for pack in packs(store.url, "origin")}
    made = store.fork("grow/origin", run_id="fork")
    assert made.stored_nbytes == 0
    shared = packs(store.url, "fork")
    assert shared
    assert {pack.stat().st_ino for pack in shared} <= before.keys()
    assert [pack.stat().st_nlink for pack in shared] == [2] * len(shared)
    assert store.verify() == []


def test_each_run_lets_go_of_its_own_packs_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    died()
    for run_id in ("one", "two", "three"):
        store.fork("grow/origin", run_id=run_id)
    assert goes_on("one") == expected, "over, so it keeps its result only"
    assert store.verify() == []
    store.remove("grow/two")
    assert store.verify() == []
    assert grow(10) == expected
    store.sweep()
    assert store.verify() == []
    assert goes_on("three") == expected


def test_a_fork_of_a_fork_outlives_both(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    died()
    store.fork("grow/origin", at=kept(store, "grow/origin")[-2], run_id="child")
    Path("die").touch()
    with pytest.raises(Dies):
        goes_on("child")
    Path("die").unlink()
    store.fork("grow/child", run_id="grandchild")
    for gone in ("grow/origin", "grow/child"):
        store.remove(gone)
        assert store.verify() == []
    assert goes_on("grandchild") == expected


def test_the_name_of_a_run_whose_packs_are_shared_is_not_taken(store: Store) -> None:
    died()
    store.fork("grow/origin", run_id="child")
    store.remove("grow/origin")
    with pytest.raises(OptionError, match="another name"):
        store.fork("grow/child", run_id="origin")
    assert store.fork("grow/child").address == f"grow/child-at-{kept(store, 'grow/child')[-1]}"


def test_a_shared_pack_is_no_other_runs_pack_of_that_number(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    died()
    store = Store(scratch / "store")
    store.fork("grow/origin", run_id="fork")
    Path("die").touch()
    with pytest.raises(Dies):
        goes_on("other")
    Path("die").unlink()
    swapped = 0
    for pack in packs(store.url, "fork"):
        twin = Path(store.url) / "grow" / "other" / "pack" / f"{pack.name.partition('@')[0]}.pack"
        if twin.exists():
            pack.unlink()
            shutil.copy(twin, pack)
            swapped += 1
    assert swapped
    assert any("header does not verify" in finding.what for finding in store.verify("grow/fork"))
    assert store.verify("grow/origin") == []
    assert goes_on("fork") == expected, "from its beginning, for it had this checkpoint only"


def test_a_file_that_takes_no_more_links_is_copied(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = plain(monkeypatch)
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    died()
    store = Store(scratch / "store")
    link = os.link

    def refuses(source: Any, target: Any, **options: Any) -> None:
        if str(source).endswith(".pack"):
            raise PermissionError(1, "Operation not permitted")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", refuses)
    made = store.fork("grow/origin", run_id="fork")
    monkeypatch.setattr(os, "link", link)
    assert made.stored_nbytes == sum(pack.stat().st_size for pack in packs(store.url, "fork")) > 0
    assert {pack.stat().st_nlink for pack in packs(store.url, "fork")} == {1}
    store.remove("grow/origin")
    assert store.verify() == []
    assert goes_on("fork") == expected
    assert not [path for path in Path(store.url).rglob(".tmp-*")]


def test_a_pack_that_is_gone_or_cut_is_no_origin_of_a_fork(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_STORE", str(scratch / "store"))
    died()
    store = Store(scratch / "store")
    newest = max(packs(store.url, "origin"), key=lambda pack: int(pack.stem.split("-")[1]))
    data = newest.read_bytes()
    os.truncate(newest, 10)
    with pytest.raises(CorruptionError):
        store.fork("grow/origin", run_id="fork")
    newest.write_bytes(data)
    assert store.fork("grow/origin", run_id="fork").address == "grow/fork"


def test_second_name_of_a_file_is_durable_with_its_folders(storage: LocalStorage, journal: list[tuple[str, str]]) -> None:
    storage.put("job/a/pack/1-0.pack", [b"x"])
    for _ in range(2):
        journal.clear()
        storage.share("job/a/pack/1-0.pack", "job/b/pack/1-0@a.pack")
        folder = f"{storage.root}/job/b/pack"
        made, named, synced, *above = journal
        assert (made[0], named, synced) == ("name", ("name", f"{folder}/1-0@a.pack"), ("folder", folder))
        assert made[1].startswith(f"{folder}/.tmp-")
        assert os.listdir(folder) == ["1-0@a.pack"]
    assert not above, "the folders above are durable already"
