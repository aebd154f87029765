"""``ckpt repair`` on the command line: what it says, and its statuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from unit.runs import make_run

from ckpt.cli.main import cli
from ckpt.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run whose newest record is damaged in its payload."""
    make_run(tmp_path / "store", status=None)
    (log,) = (tmp_path / "store").glob("sim/aaaa/log/*.log")
    data = bytearray(log.read_bytes())
    data[-40] ^= 1
    log.write_bytes(data)
    return tmp_path / "store"


def repair(store: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["repair", "sim", "--store", str(store), *options])


def test_dry_run_says_what_would_be_lost_and_changes_nothing(store: Path) -> None:
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    found = repair(store, "--dry-run")
    assert found.exit_code == 1
    assert "problem: sim/aaaa/log/00000000000000000001.log at byte" in found.output
    assert "lost: sim/aaaa/log/00000000000000000001.log" in found.output
    assert "OPERATION record 1.4" in found.output
    assert "would be repaired (with --accept-loss); it would go on at checkpoint 2" in found.output
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def test_a_loss_that_nobody_consented_to_is_an_error_that_names_it_and_the_option(store: Path) -> None:
    found = repair(store)
    assert found.exit_code == 1
    assert "OPERATION record 1.4" in found.output
    assert "ckpt repair --accept-loss sim/aaaa" in found.output


def test_repaired_run_is_good_and_a_second_repair_finds_nothing(store: Path) -> None:
    found = repair(store, "--accept-loss")
    assert found.exit_code == 0, found.output
    assert "sim/aaaa is repaired; it goes on at checkpoint 2" in found.output
    assert Store(store).verify() == []
    again = repair(store)
    assert (again.exit_code, again.output) == (0, "sim/aaaa: nothing to repair\n")


def test_json_has_the_same_facts(store: Path) -> None:
    found = json.loads(repair(store, "--dry-run", "--json").output)
    assert (found["address"], found["done"], found["needs"]) == ("sim/aaaa", False, "accept-loss")
    assert [loss["acknowledged"] for loss in found["losses"]] == [True]
