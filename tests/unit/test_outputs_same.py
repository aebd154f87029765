"""One file is one output of a run, and it stays in one form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from programs.ticks import settle
from unit.outputs_support import Dies, here  # noqa: F401 - the last is a fixture

import ckpt
from ckpt.errors import OptionError


@ckpt.job(every="1it", key=lambda form: "formed")
def formed(form: dict[str, Any]) -> None:
    out = ckpt.output("a.txt", **form)
    for i in ckpt.loop(range(6)):
        out.write(b"x" if "mode" in form else f"é{i}\n")
        settle()
        if os.path.exists("die") and i == 3:
            raise Dies


@pytest.mark.parametrize("change", [{"encoding": "latin-1"}, {"newline": "\r\n"}, {"mode": "ab"}])
def test_file_is_not_gone_on_with_in_another_form(change: dict[str, Any]) -> None:
    Path("die").touch()
    with pytest.raises(Dies):
        formed({})
    Path("die").unlink()
    before = Path("a.txt").read_bytes()
    with pytest.raises(OptionError, match="was begun with encoding 'utf-8'"):
        formed(change)
    assert Path("a.txt").read_bytes() == before
    formed({"encoding": "UTF8", "errors": "replace", "newline": "\n"})
    assert Path("a.txt").read_bytes() == "".join(f"é{i}\n" for i in range(6)).encode()


@ckpt.job(every="1it", key="linked")
def linked() -> None:
    outs = [ckpt.output("a.txt"), ckpt.output("b.txt")]
    for i in ckpt.loop(range(3)):
        outs[i % 2].write(f"{i}\n")


def test_two_names_of_one_file_are_refused_and_two_files_are_not() -> None:
    Path("a.txt").write_text("earlier\n")
    Path("b.txt").hardlink_to("a.txt")
    with pytest.raises(OptionError, match=r"'a\.txt' under another name"):
        linked()
    assert Path("a.txt").read_text() == "earlier\n"
    Path("b.txt").unlink()
    linked()
    assert (Path("a.txt").read_text(), Path("b.txt").read_text()) == ("earlier\n0\n2\n", "1\n")
