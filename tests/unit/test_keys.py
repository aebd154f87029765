"""Keys: several at once, rotation by id, files, and what is bound to one store."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.runs import make_run
from unit.snapshot_doubles import NAMES, fresh_storage, noise

from ckpt import host, keyfile
from ckpt.cli import cli
from ckpt.errors import OptionError, StorageError, UntrustedError
from ckpt.format.floor import Floor, decode_floor, encode_floor
from ckpt.format.keys import UNSIGNED, Key, digest
from ckpt.root import StoreRoot
from ckpt.snapshot import SnapshotWriter, read_snapshot
from ckpt.staging import Stager
from ckpt.store import Store

OLD, NEW, OTHER = (Key.from_secret(bytes([n]) * 32) for n in (1, 2, 3))
BOTH = replace(NEW, older=(OLD,))


@pytest.mark.parametrize("separator", [",", "\n", " , ", "\r\n", ",\n\n"])
def test_several_keys_are_read_and_the_first_signs(separator: str) -> None:
    read = Key.parse(separator.join([NEW.to_text(), OLD.to_text(), NEW.to_text()]) + "\n")
    assert read == BOTH
    assert Key.parse(read.to_text()) == read
    assert [key.id for key in read.all] == [NEW.id, OLD.id]


@pytest.mark.parametrize("text", ["", ",", "\n", NEW.to_text() + ",x", NEW.to_text() + OLD.to_text()])
def test_what_is_no_list_of_keys_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(OptionError, match="64 hexadecimal digits") as caught:
        Key.parse(text)
    assert NEW.to_text() not in str(caught.value)


def test_all_zero_key_among_others_is_refused() -> None:
    for keys in ((NEW, UNSIGNED), (UNSIGNED, NEW)):
        with pytest.raises(OptionError, match="all-zero"):
            Key.parse(",".join(key.to_text() for key in keys))


def test_missing_key_is_named_with_those_that_are_there() -> None:
    with pytest.raises(UntrustedError) as caught:
        BOTH.named(OTHER.id, where="x", what="the segment")
    for key in (OTHER, NEW, OLD):
        assert key.id in str(caught.value)
        assert key.to_text() not in str(caught.value)
    with pytest.raises(UntrustedError, match="unsigned"):
        BOTH.named(UNSIGNED.id, where="x", what="the segment")


def test_one_secret_gives_each_store_digests_of_its_own() -> None:
    stores = [(b"a" * 16, False), (b"b" * 16, False), (b"a" * 16, True)]
    bound = [NEW.of_store(store, encrypts=encrypts) for store, encrypts in stores]
    assert {key.id for key in bound} == {NEW.id}
    assert len({digest(key, b"x") for key in (NEW, *bound)}) == 4


def test_floor_verifies_under_an_older_key_and_under_no_other() -> None:
    data = encode_floor(OLD, NAMES, Floor(3, 2))
    assert decode_floor(data, BOTH, NAMES) == Floor(3, 2)
    assert not isinstance(decode_floor(data, replace(NEW, older=(OTHER,)), NAMES), Floor)


@pytest.mark.parametrize("parts", [[b"small"], [b"s", noise(1, 200_000)]])
def test_snapshots_of_an_older_key_are_read_and_new_ones_do_not_draw_on_them(parts: list[bytes]) -> None:
    storage = fresh_storage()
    old = SnapshotWriter(storage, NAMES, OLD, 1).write(Stager().stage(parts[0], parts[1:]))
    assert read_snapshot(old, storage, NAMES, BOTH) == parts
    writer = SnapshotWriter(storage, NAMES, BOTH, 2)
    writer.adopt([old])
    new = writer.write(Stager().stage(parts[0], parts[1:]))
    assert (old.key_id, new.key_id) == (OLD.id, NEW.id)
    assert not old.packs & new.packs
    assert read_snapshot(new, storage, NAMES, NEW) == parts
    with pytest.raises(UntrustedError, match=OLD.id):
        read_snapshot(old, storage, NAMES, NEW)


def test_new_key_file_is_private_and_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "k"
    result = CliRunner().invoke(cli, ["key", "new", "--out", str(out)])
    assert result.exit_code == 0, result.output
    key, text = keyfile.read_key_file(out), out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600
    assert key.id in result.output
    assert key.to_text() not in result.output
    again = CliRunner().invoke(cli, ["key", "new", "--out", str(out)])
    assert (again.exit_code, out.read_text()) == (2, text)
    assert os.listdir(tmp_path) == ["k"]


def test_new_key_on_standard_output_is_a_key_and_nothing_else() -> None:
    said = [CliRunner().invoke(cli, ["key", "new"]).output for _ in range(2)]
    assert Key.parse(said[0]) != Key.parse(said[1])
    assert said[0] == Key.parse(said[0]).to_text() + "\n"


def test_rotation_puts_a_new_key_in_front_and_keeps_the_rest(tmp_path: Path) -> None:
    file, link = tmp_path / "k", tmp_path / "link"
    keyfile.write_new(file, BOTH)
    link.symlink_to(file)
    result = CliRunner().invoke(cli, ["key", "rotate", str(link)])
    assert result.exit_code == 0, result.output
    first, *rest = keyfile.read_key_file(file).all
    assert [key.id for key in rest] == [NEW.id, OLD.id]
    assert first.id in result.output
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["k", "link"]


def test_rotation_that_dies_leaves_the_old_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k"
    keyfile.write_new(file, OLD)

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fails)
            with pytest.raises(StorageError, match="No space"):
                keyfile.rotate(file, host.entropy)
        assert keyfile.read_key_file(file) == OLD


def test_local_store_goes_on_after_its_key_was_rotated(tmp_path: Path) -> None:
    store = tmp_path / "store"
    make_run(store, "sim", "aaaa")
    before = StoreRoot.open(store).key.id
    keyfile.rotate(store / "key", host.entropy)
    make_run(store, "sim", "bbbb")
    root = StoreRoot.open(store)
    assert [key.id for key in root.key.older] == [before]
    uses, problems = Store(store).keys()
    assert [(use.id, use.signs, use.runs) for use in uses] == [(root.key.id, True, 1), (before, False, 1)]
    assert problems == []
    assert {run.status for run in Store(store).list()} == {"finished"}
    (store / "key").write_text((store / "key").read_text().splitlines()[0])
    shown = CliRunner().invoke(cli, ["key", "ls", "--store", str(store)])
    assert shown.exit_code == 1
    assert f"{root.key.id}  signs     1 run\n" in shown.output
    assert f"signed with the key {before}" in shown.output
