"""``ckpt bench`` on programs of a user, in processes of their own."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ckpt.bench import Request, Spread, _measured, _Trial, advise, daly_interval, useful_share, young_interval
from ckpt.trial import trace_of

JOB = """\
import random, sys, ckpt

@ckpt.job(store={store!r})
def work(n):
    rng, total = random.Random(1), 0.0
    for i in ckpt.loop(range(n)):
        total += sum(rng.random() for _ in range(2000))
    return total

print(work(int(sys.argv[1])))
"""


def bench(folder: Path, *words: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CKPT_")}
    # The script is no module of the working directory's; the folder in front may hold a package that hides another.
    paths = os.pathsep.join([*filter(None, [environ.pop("FIRST", "")]), os.getcwd(), *sys.path])
    command = [sys.executable, "-m", "ckpt", "bench", *map(str, words)]
    environment = {**inherited, "PYTHONPATH": paths, **environ}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text(JOB.format(store=None))
    return path


def test_a_job_is_measured_killed_and_resumed_and_its_own_store_stays_untouched(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (tmp_path / "job.py").write_text(JOB.format(store=str(own)))
    done = bench(tmp_path, "--rounds", "2", "--mtbf", "1h", "--json", "job.py", "2000", CKPT_STORE=str(tmp_path / "env"))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["command"] == ["job.py", "2000"]
    assert (len(found["without_s"]), len(found["with_s"]), found["overhead"]["count"]) == (2, 2, 2)
    assert len(found["stalls_s"]) == found["stall_s"]["count"] >= 4
    assert min(found["stalls_s"]) > 0
    assert found["stored_nbytes"]["high"] > 0
    assert found["state_nbytes"]["median"] > 0
    assert 0 < found["counted"] < 1
    assert 0 < found["start_s"]["low"] < min(found["with_s"]), "once a process"
    assert found["overhead"]["median"] < found["whole"]["median"], "the start is no overhead of checkpoints"
    resumed = found["resumed"]
    assert 0 <= resumed["lost_s"] <= resumed["killed_s"]
    assert 0 < resumed["resume_s"] <= resumed["whole_s"]
    assert found["advice"]["daly_s"] == pytest.approx(daly_interval(found["advice"]["cost_s"], 3600))
    assert {path.name for path in tmp_path.iterdir()} == {"job.py"}, "no store was made"


def test_a_job_that_never_has_a_checkpoint_in_a_loop_says_why_it_was_not_killed(tmp_path: Path) -> None:
    (tmp_path / "short.py").write_text("import ckpt\n@ckpt.job\ndef work():\n    return 1\nwork()")
    done = bench(tmp_path, "--rounds", "1", "short.py")
    assert done.returncode == 0, done.stderr
    assert "overhead" in done.stdout
    assert "not measured: the program ended before it could be killed" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys\nprint('x' * 100_000)\nsys.exit('no such data')", ["failed without checkpoints", "| no such data"]),
        ("print('done')", ["took no checkpoint", "@ckpt.job"]),
        (
            "import ckpt\n@ckpt.job\ndef work():\n    f = open('/dev/null', 'w')\n    for i in ckpt.loop([1]): pass\nwork()",
            ["failed with checkpoints", "UncapturableError"],
        ),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", ["signal 11 ended it"]),
    ],
)  # fmt: skip
def test_a_program_that_cannot_be_measured_is_refused_by_name(tmp_path: Path, text: str, said: list[str]) -> None:
    (tmp_path / "bad.py").write_text(text)
    done = bench(tmp_path, "--rounds", "1", "bad.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert "fix:" in done.stderr
    assert "ckpt/bench.py" not in done.stderr, "no traceback of ours"
    for words in said:
        assert words in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_ends_it_ends_the_program_that_is_measured(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "long.py").write_text("import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path]), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "ckpt", "bench", "long.py"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    try:
        pid = tmp_path / "pid"
        while not (pid.exists() and pid.read_text().endswith("\n")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert not list(tmp_path.glob("ckpt-bench-*"))


@pytest.mark.parametrize("words", [["missing.py"], ["--mtbf", "soon", "job.py"], ["--mtbf", "0s", "job.py"]])
def test_wrong_words_are_usage(script: Path, words: list[str]) -> None:
    done = bench(script.parent, *words)
    assert done.returncode == 2
    assert "fix:" in done.stderr


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(script: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "matplotlib.py").write_text("raise ImportError('not here')")
    done = bench(tmp_path, "--plot", "out.png", script, "10", FIRST=str(hidden))
    assert done.returncode == 2
    assert 'pip install "ckpt-jobs[plot]"' in done.stderr
    assert "round" not in done.stderr


def test_a_plot_is_drawn(script: Path) -> None:
    if os.environ.get("CKPT_TEST_REQUIRE") != "all":
        pytest.importorskip("matplotlib")
    out = script.parent / "out.png"
    done = bench(script.parent, "--rounds", "1", "--plot", out, script, "500")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("cost_s", "mtbf_s"), [(0.01, 10.0), (1.0, 3600.0), (300.0, 86_400.0)])
def test_daly_is_nearer_to_the_best_interval_of_the_exact_model_than_young(cost_s: float, mtbf_s: float) -> None:
    def time_factor(interval_s: float) -> float:
        """Daly's equation 13, without the restart: how much longer a job takes."""
        return mtbf_s / interval_s * (math.exp((interval_s + cost_s) / mtbf_s) - 1)

    young = young_interval(cost_s, mtbf_s)
    best = min((young * (0.5 + step / 20_000) for step in range(20_000)), key=time_factor)
    assert daly_interval(cost_s, mtbf_s) == pytest.approx(best, rel=2e-3)
    assert abs(daly_interval(cost_s, mtbf_s) - best) < abs(young - best)


def test_checkpoints_dearer_than_failures_are_far_apart() -> None:
    assert daly_interval(20.0, 10.0) == 10.0


def test_the_advised_interval_beats_others() -> None:
    advice = advise(1000.0, 2.0, 1.0, 300.0)
    assert advice.measured_useful is not None
    assert advice.useful > advice.measured_useful
    assert advice.useful > useful_share(5.0, 2.0, 1.0, 1000.0)
    assert useful_share(0.0, 2.0, 1.0, 1000.0) == 0.0


def test_a_spread_has_its_median_and_its_ends() -> None:
    assert Spread.of([]) is None
    assert Spread.of([5, 1, 2, 4, 3]) == Spread(3, 5, 1, 5, 5)


def test_start_that_a_program_has_without_checkpoints_too_is_not_subtracted_from_the_other_side_only() -> None:
    def trial(seconds: float, *events: tuple[str, float]) -> _Trial:
        details = {"stall_s": 0.0, "persist_s": 0.0, "interval_s": 1.0, "nbytes": 1, "stored_nbytes": 1, "path": True, "reason": "trigger"}
        return _Trial(Path(), 0.0, seconds, events=[{"event": name, "at": at, **details} for name, at in events])

    plain = trial(4.3, ("called", 0.1), ("entered", 0.4))
    ours = trial(4.5, ("called", 0.1), ("entered", 0.6), ("checkpoint", 0.7))
    found = _measured(Request(("job.py",), 1, 3600.0), [plain], [ours], [{"seconds": 4.0, "cost_s": 0.01}], (None, ""))
    assert found.start_s.median == pytest.approx(0.2)
    assert found.overhead.median == pytest.approx(0.0)
    assert found.whole.median == pytest.approx(0.2 / 4.3)


def test_a_disabled_job_tells_its_trial_where_its_call_begins_and_its_first_line_is(script: Path) -> None:
    folder = script.parent / "trial"
    folder.mkdir()
    paths = os.pathsep.join([os.getcwd(), *sys.path])
    environment = {**os.environ, "PYTHONPATH": paths, "CKPT_TRIAL": str(folder), "CKPT_DISABLE": "1"}
    subprocess.run([sys.executable, str(script), "1"], check=True, env=environment, stdout=subprocess.DEVNULL)
    lines = trace_of(folder).read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["called", "entered"]
