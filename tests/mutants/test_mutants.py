"""Every protecting line that is taken out is noticed by a test; and the test passes with the line in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs.staging import missing

from mutants.mutant import Mutant
from mutants.running import ROOT, make, run_test
from mutants.table import MUTANTS

TESTS_FAILED = 1


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_missing_protection_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    if mutant.asks_kernel and missing("pages"):
        pytest.skip(missing("pages"))
    make(mutant, tmp_path)
    done = run_test(mutant, tmp_path)
    assert done.returncode == TESTS_FAILED, f"{mutant.name}: not noticed by {mutant.test}\n{done.stdout[-2000:]}{done.stderr}"


def test_the_guarantees_list_every_mutant() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| `([^`|]+)` \|", text, re.MULTILINE)
    assert [(m.promise, m.name, m.file) for m in MUTANTS] == rows
