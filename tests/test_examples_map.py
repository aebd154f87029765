"""The examples of maps: killed, their workers killed, resumed; what they print is what an uninterrupted run prints."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash.harness import TESTS, Script, base_environment, collect
from crash.test_map_engines import DaskCluster

FOLDER = TESTS.parent / "examples"


def cli(folder: Path, *words: str) -> str:
    env = base_environment(folder / "store")
    command = [sys.executable, "-m", "ckpt", *words]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
def test_paid_api_killed_pays_for_no_answer_twice_and_refused_items_are_asked_again(tmp_path: Path) -> None:
    script = Script(FOLDER / "paid_api.py", tmp_path, ("--items", "80"))
    answered = sum(n * n for n in range(80))
    refused = [9, 59]
    for wanted in (10, 40):
        process = script.start()
        while lines_of(tmp_path / "paid.txt") < wanted and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        assert collect(process).killed
    resumed = script.run()
    assert resumed.out == f"sum of the answers {answered - sum(n * n for n in refused)}, 2 refused\n", resumed.err
    keys = (tmp_path / "paid.txt").read_text().split()
    assert len(keys) == len(set(keys)) == 78, "each answer was charged once"
    listed = cli(tmp_path, "failed", "paid_api")
    assert all(f"item {n} makes no sense" in listed for n in refused)
    assert "2 items" in cli(tmp_path, "retry", "paid_api", "--failed")
    mended = Script(FOLDER / "paid_api.py", tmp_path, ("--items", "80", "--mended")).run()
    assert mended.out == f"sum of the answers {answered}, 0 refused\n", mended.err
    assert lines_of(tmp_path / "paid.txt") == 80


@pytest.mark.slow
def test_etl_on_dask_loses_a_worker_and_is_killed_and_prints_the_same(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason='needs Dask: pip install "ckpt-jobs[dask]"')
    cluster = DaskCluster()
    try:
        arguments = ("--files", "150", "--cluster", cluster.executor)
        (tmp_path / "plain").mkdir()
        (tmp_path / "killed").mkdir()
        plain = Script(FOLDER / "etl_dask.py", tmp_path / "plain", arguments).run()
        assert plain.status == 0, plain.err
        script = Script(FOLDER / "etl_dask.py", tmp_path / "killed", arguments)
        process = script.start()
        while not any(script.store.glob("*/*/log/*.log")) and process.poll() is None:
            time.sleep(0.01)
        assert cluster.process._process is not None
        workers = below(cluster.process._process.pid)
        assert workers
        os.kill(workers[-1], signal.SIGKILL)
        time.sleep(0.3)
        process.kill()
        collect(process)
        resumed = script.run()
    finally:
        cluster.process.stop()
    assert resumed.status == 0, resumed.err
    assert resumed.out == plain.out
    assert resumed.out.count(",") == 7


def below(pid: int) -> list[int]:
    """The worker processes that a cluster has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                found.append(child)
    return sorted(found)


def code_lines(path: Path) -> list[str]:
    text = path.read_text()
    body = ast.parse(text).body
    return text.splitlines()[body[0].end_lineno or 0 :]


def test_the_ray_version_differs_in_five_lines_at_most() -> None:
    dask, ray = code_lines(FOLDER / "etl_dask.py"), code_lines(FOLDER / "etl_ray.py")
    assert len(dask) == len(ray)
    assert 0 < sum(one != other for one, other in zip(dask, ray, strict=True)) <= 5


@pytest.mark.slow
def test_etl_on_ray_prints_what_dask_prints(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason='needs Ray: pip install "ckpt-jobs[ray]"')
    script = Script(FOLDER / "etl_ray.py", tmp_path, ("--files", "60"), env={"RAY_AUTH_MODE": "disabled"})
    first = script.run()
    assert first.status == 0, first.err
    assert first.out.count(",") == 7
