"""Real jobs under ``ckpt run``, and what the command line says of them afterwards."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = """
import itertools, os, random, signal, sys, time
import ckpt

folder, kill_after = sys.argv[1], int(sys.argv[2])
ticks = itertools.count(1)

def fetch(n):
    with open(os.path.join(folder, "effects"), "a") as file:
        file.write(f"{n}\\n")
    return n * 7

@ckpt.job(name="sum", every="5it", keep=2)
def add(items, seed):
    rng = random.Random(seed)
    total, seen = 0.0, []
    for n in ckpt.loop(range(items)):
        total += rng.random() * ckpt.step(fetch)(n)
        seen.append(n)
        time.sleep(0.002)
        if next(ticks) == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    return total, seen, rng.random()

print("RESULT", add(120, 5))
"""


def environ(**more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CKPT_")}
    return {**own, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]), **more}


def ckpt(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ckpt", *words]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=cwd, env=environ(**env), timeout=120
    )


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


def expected(job: Path) -> str:
    plain = job / "plain"
    plain.mkdir()
    command = [sys.executable, "job.py", str(plain), "0"]
    return subprocess.check_output(command, cwd=job, env=environ(CKPT_DISABLE="1"), text=True)


def test_a_job_that_dies_often_is_carried_to_its_end(job: Path) -> None:
    """It dies more often than the limit of restarts allows, but never without progress."""
    words = ["--restarts", "2", "--backoff", "1ms..2ms", "--", sys.executable, "job.py", str(job), "17"]
    result = ckpt("run", *words, cwd=job)
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected(job)
    assert result.stderr.count("SIGKILL") >= 6
    assert "made progress" in result.stderr
    effects = (job / "effects").read_text().split()
    assert sorted(set(map(int, effects))) == list(range(120))
    assert len(effects) <= 120 + result.stderr.count("SIGKILL")
    (run,) = json.loads(ckpt("ls", "--json", cwd=job).stdout)
    assert run["status"] == "finished"
    assert run["attempts"] >= 7
    assert ckpt("verify", cwd=job).returncode == 0


def test_a_job_that_always_dies_at_the_same_place_is_given_up(job: Path) -> None:
    (job / "job.py").write_text(JOB.replace("next(ticks) == kill_after", "n == 33"))
    words = ["--restarts", "3", "--backoff", "1ms..2ms", "--", sys.executable, "job.py", str(job), "0"]
    result = ckpt("run", *words, cwd=job)
    assert result.returncode == 128 + signal.SIGKILL
    assert "giving up after 3 restarts in a row without progress" in result.stderr


def test_saving_one_more_iteration_before_the_same_death_is_no_progress(job: Path) -> None:
    """Each attempt saves one more of the iterations that the first one had done; the wait is longer than it lives."""
    text = JOB.replace("next(ticks) == kill_after", "n == 33").replace("ckpt.step(fetch)(n)", "n").replace("5it", "20it")
    asks = "if next(ticks) == 1:\n            ckpt.current_run().request_checkpoint()\n        "
    (job / "job.py").write_text(text.replace("if n == 33", f"{asks}if n == 33"))
    words = ["--restarts", "3", "--backoff", "2s..3s", "--", sys.executable, "job.py", str(job), "0"]
    result = ckpt("run", *words, cwd=job)
    assert result.returncode == 128 + signal.SIGKILL
    assert "giving up after 3 restarts in a row without progress" in result.stderr
    (run,) = json.loads(ckpt("ls", "--json", cwd=job).stdout)
    assert run["attempts"] == 4, result.stderr
    assert run["position"] > "n 21/120", "attempts saved more and more"


def test_a_stopped_supervisor_leaves_a_job_that_is_saved_and_resumes(job: Path) -> None:
    command = [sys.executable, "-m", "ckpt", "run", "--", sys.executable, "job.py", str(job), "0"]
    process = subprocess.Popen(
        command, cwd=job, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (job / "effects").exists() or len((job / "effects").read_text().split()) < 20:
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75, said
    (run,) = json.loads(ckpt("ls", "--json", cwd=job).stdout)
    assert run["status"] == "preempted"
    before = len((job / "effects").read_text().split())
    result = ckpt("resume", "sum", cwd=job / "..")
    assert result.returncode == 2, "another folder has another default store"
    result = ckpt("resume", "sum", "--store", str(job / ".ckpt"), cwd=job / "..")
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected(job)
    assert len((job / "effects").read_text().split()) == 120
    assert before < 120
    again = ckpt("resume", "sum", cwd=job)
    assert (again.returncode, "finished" in again.stdout) == (0, True)


def test_killing_the_supervisor_kills_the_job_and_its_run_can_be_taken_over_at_once(job: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    wanted = expected(job)
    rng = random.Random(seed)
    for _ in range(3):
        command = [sys.executable, "-m", "ckpt", "run", "--", sys.executable, "job.py", str(job), "0"]
        process = subprocess.Popen(
            command, cwd=job, env=environ(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        size = (job / "effects").stat().st_size if (job / "effects").exists() else 0
        while not (job / "effects").exists() or (job / "effects").stat().st_size <= size:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.wait()
    result = subprocess.run(
        [sys.executable, "job.py", str(job), "0"], check=False, cwd=job, env=environ(), capture_output=True, text=True
    )
    # The dead job's lock goes with its process, which the kernel ends within moments of the supervisor.
    while "RunBusyError" in result.stderr:
        result = subprocess.run(
            [sys.executable, "job.py", str(job), "0"],
            check=False,
            cwd=job,
            env=environ(),
            capture_output=True,
            text=True,
        )
    assert result.stdout == wanted, result.stderr


def test_what_a_job_recorded_is_shown(job: Path) -> None:
    subprocess.run([sys.executable, "job.py", str(job), "40"], check=False, cwd=job, env=environ(), capture_output=True)
    info = json.loads(ckpt("show", "sum", "--json", cwd=job).stdout)
    assert info["summary"]["status"] == "crashed"
    assert info["summary"]["position"].endswith("/120")
    assert info["checkpoints"][-1]["attempt"] == 1
    assert "add.total" in str(info["checkpoints"][-1]["captured"])
    assert info["attempts"][0]["command"][1:] == ["job.py", str(job), "40"]
    assert ckpt("show", "sum", cwd=job).returncode == 0
    assert ckpt("verify", cwd=job).stdout.endswith("all good\n")
    kinds = {json.loads(line)["kind"] for line in ckpt("log", "sum", "--json", cwd=job).stdout.splitlines()}
    assert kinds == {"fence", "seal", "operation", "checkpoint"}
    assert ckpt("rm", "--yes", "sum", cwd=job).returncode == 0
    assert json.loads(ckpt("ls", "--json", cwd=job).stdout) == []
