"""Which arguments are the same run: equal ones in any process, unequal ones never."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash.harness import PROGRAMS, base_environment


def addresses(tmp_path: Path, seed: str) -> dict[str, str]:
    """The addresses that a process with this PYTHONHASHSEED gives, by the name of the case."""
    env = base_environment(tmp_path / "store") | {"PYTHONHASHSEED": seed}
    done = subprocess.run(
        check=False,
        args=[sys.executable, str(PROGRAMS / "addresses.py")],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return addresses(tmp_path_factory.mktemp("one"), "1")


def test_equal_arguments_have_one_address_in_every_process(first: dict[str, str], tmp_path: Path) -> None:
    for seed in ("2", "31337"):
        assert addresses(tmp_path, seed) == first


def test_ways_to_write_one_value_have_one_address(first: dict[str, str]) -> None:
    groups: dict[str, set[str]] = {}
    for name, address in first.items():
        groups.setdefault(name.partition("/")[0], set()).add(address)
    assert {name: len(found) for name, found in groups.items() if len(found) > 1} == {}


def test_different_arguments_have_different_addresses(first: dict[str, str]) -> None:
    owner: dict[str, str] = {}
    for name, address in first.items():
        case = name.partition("/")[0]
        assert owner.setdefault(address, case) == case, f"{case} and {owner[address]} are one run"


def test_address_names_the_script_and_the_function(first: dict[str, str]) -> None:
    job = first["int 1"].rpartition("/")[0]
    assert "addresses" in job
    assert "work" in job
    assert os.sep not in job


def test_an_argument_without_a_digest_is_refused_with_the_fix(tmp_path: Path) -> None:
    env = base_environment(tmp_path / "store")
    done = subprocess.run(
        check=False,
        args=[sys.executable, str(PROGRAMS / "addresses.py"), "opaque"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "IdentityError" in done.stderr
    assert "client" in done.stderr, "the argument is named"
    assert "key=" in done.stderr
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").rglob("*.log")), "nothing was started"


def test_a_spawned_child_gives_the_same_address(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("""
import multiprocessing
import ckpt

@ckpt.job
def work(n):
    return n

def address(n):
    return work.address(n)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(work.address(3), pool.apply(address, (3,)))
""")
    command = [sys.executable, "script.py"]
    said = subprocess.check_output(command, env=base_environment(tmp_path / "store"), cwd=tmp_path, text=True)
    ours, theirs = said.split()
    assert ours == theirs
    assert ours.startswith("script.work/")
