"""Bytes that anybody may have put into a store are no reason for an error without a type."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unit.runs import make_run

from ckpt.errors import CorruptionError
from ckpt.format.names import RunNames, parse_job
from ckpt.format.records import decode_payload
from ckpt.holder import Holder
from ckpt.log.seals import parse_seal_head
from ckpt.root import StoreRoot
from ckpt.store import Store

DEEP = b"[" * 100_000


def test_a_folder_whose_name_is_no_text_is_no_job(tmp_path: Path) -> None:
    make_run(tmp_path / "store")
    os.mkdir(os.fsencode(tmp_path / "store") + b"/\xff\xfe")
    assert parse_job("\udcff\udcfe") is None
    assert Store(tmp_path / "store").addresses() == ["sim/aaaa"]
    assert [run.address for run in Store(tmp_path / "store").list()] == ["sim/aaaa"]


@pytest.mark.parametrize("text", [DEEP, b'{"host":"h","pid":1e999,"boot_id":"","process_start":"","started":1}'])
def test_a_lock_that_says_nonsense_names_no_holder(text: bytes) -> None:
    assert Holder.parse(text) is None


def test_a_head_that_is_nested_too_deeply_is_a_value_error() -> None:
    payload = len(DEEP).to_bytes(4, "little") + DEEP + bytes(4)
    with pytest.raises(ValueError, match="nested"):
        decode_payload(payload)


def test_a_seal_with_an_infinite_length_is_a_value_error() -> None:
    seal = {"slot": 1, "length": float("inf"), "records": 1, "digest": ""}
    with pytest.raises(ValueError, match="SEAL"):
        parse_seal_head({"sealed": [seal], "floor": 1})


def test_a_format_that_is_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "FORMAT").write_bytes(DEEP)
    with pytest.raises(CorruptionError):
        StoreRoot.open(tmp_path)


def test_a_pack_with_a_number_of_thousands_of_digits_is_none() -> None:
    names = RunNames("job", "run")
    assert names.parse_pack(f"{names.pack_prefix}{'9' * 5000}-0.pack") is None
