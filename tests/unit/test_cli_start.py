"""``ckpt run`` and ``ckpt resume`` as a person starts them: in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from unit.runs import Writing, make_run, start_live_run

REPORT = "import os; print(os.getcwd(), os.environ.get('CKPT_STORE', '-'), os.getpid()); raise SystemExit({})"


def ckpt(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CKPT_")}
    environ["PYTHONPATH"] = os.pathsep.join([os.getcwd(), *sys.path])
    command = [sys.executable, "-m", "ckpt", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ, **more)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def leave(store: Path, status: str | None, **fence: Any) -> None:
    """A run that was started so and ended with ``status``."""
    writing = Writing.start(store, **fence)
    writing.checkpoint()
    writing.end(status)


@pytest.mark.parametrize("status", [None, "failed", "preempted"])
def test_resume_starts_what_was_recorded_in_its_folder_and_gives_its_status(
    store: Path, tmp_path: Path, status: str | None
) -> None:
    leave(store, status, command=[sys.executable, "-c", REPORT.format(7)], cwd=str(tmp_path))
    result = ckpt("resume", "--store", store, "sim")
    folder, url, _ = result.stdout.split()
    assert (folder, url, result.returncode) == (str(tmp_path), str(store), 7)
    assert "resuming sim/aaaa" in result.stderr


def test_resume_of_the_default_store_leaves_the_environment_alone(tmp_path: Path) -> None:
    leave(tmp_path / ".ckpt", None, command=[sys.executable, "-c", REPORT.format(0)], cwd=str(tmp_path))
    result = ckpt("resume", "--store", tmp_path / ".ckpt", "sim")
    assert result.stdout.split()[:2] == [str(tmp_path), "-"]


def test_resume_follows_the_newest_attempt(store: Path, tmp_path: Path) -> None:
    leave(store, None, command=["/no/such/program"])
    leave(store, None, command=[sys.executable, "-c", "print('newest')"])
    assert ckpt("resume", "--store", store, "sim").stdout == "newest\n"


FORKED = """
import os, sys, ckpt

@ckpt.job(name="walk", every="1it", keep=9, key="origin")
def walk(n):
    total = 0
    for i in ckpt.loop(range(n)):
        total += i
        ckpt.current_run().checkpoint()
        if i == 3 and os.path.exists("die"):
            os._exit(1)
    return total

def block():
    with ckpt.open("block", every="1it", keep=9) as run:
        s = run.state(total=0)
        for i in run.loop(range(6)):
            s.total += i
            run.checkpoint()
            if i == 3 and os.path.exists("die"):
                os._exit(1)
        return s.total

print(walk(6) if sys.argv[1] == "job" else block())
"""


@pytest.mark.parametrize(("kind", "address"), [("job", "walk/origin"), ("block", "block/default")])
def test_resume_starts_a_fork_by_the_command_of_its_origin(kind: str, address: str, store: Path, tmp_path: Path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    (tmp_path / "die").touch()
    command = [sys.executable, "forked.py", kind]
    environ = {**os.environ, "CKPT_STORE": str(store), "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    assert subprocess.run(command, check=False, cwd=tmp_path, env=environ).returncode == 1
    (tmp_path / "die").unlink()
    made = ckpt("fork", "--store", store, address, "--as", "mine")
    assert made.returncode == 0, made.stderr
    fork = f"{address.partition('/')[0]}/mine"
    assert f"ckpt resume {fork}" in made.stderr
    assert ("f.options" in made.stderr) == (kind == "job")
    shown = ckpt("show", "--store", store, fork)
    assert "forked" in shown.stdout
    assert "preempted" not in shown.stdout
    assert f"forked from {address}@" in " ".join(shown.stdout.split())
    assert "error" not in shown.stdout
    before = ckpt("log", "--store", store, address).stdout
    resumed = ckpt("resume", "--store", store, fork)
    assert resumed.stdout == "15\n", resumed.stderr
    assert "finished" in ckpt("show", "--store", store, fork).stdout
    assert ckpt("log", "--store", store, address).stdout == before, "the origin is as it was"


def test_resume_of_a_fork_that_died_again_starts_the_fork_and_not_its_origin(store: Path, tmp_path: Path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    (tmp_path / "die").touch()
    environ = {**os.environ, "CKPT_STORE": str(store), "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    command = [sys.executable, "forked.py", "job"]
    assert subprocess.run(command, check=False, cwd=tmp_path, env=environ).returncode == 1
    assert ckpt("fork", "--store", store, "walk/origin", "--at", "3", "--as", "mine").returncode == 0
    assert ckpt("resume", "--store", store, "walk/mine").returncode == 1
    assert ckpt("fork", "--store", store, "walk/mine", "--as", "second").returncode == 0
    (tmp_path / "die").unlink()
    for name in ("mine", "second"):
        resumed = ckpt("resume", "--store", store, f"walk/{name}")
        assert resumed.stdout == "15\n", resumed.stderr
        assert f"walk/{name}" in resumed.stderr
    assert "crashed" in ckpt("show", "--store", store, "walk/origin").stdout


def test_resume_of_a_finished_run_starts_nothing(store: Path) -> None:
    make_run(store)
    result = ckpt("resume", "--store", store, "sim")
    assert (result.returncode, result.stdout) == (0, "sim/aaaa is finished; its result is recorded\n")


def test_resume_of_a_live_run_is_refused_with_status_3(store: Path) -> None:
    process = start_live_run(store, "sim", "aaaa")
    try:
        result = ckpt("resume", "--store", store, "sim")
        assert (result.returncode, result.stdout) == (3, "")
        assert f"pid {process.pid}" in result.stderr
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("fence", "words"),
    [({"cwd": "/no/such/folder"}, "folder is gone"), ({"command": ["/no/such/program"]}, "cannot start it")],
)
def test_resume_of_what_cannot_be_started_is_a_message(store: Path, fence: dict[str, Any], words: str) -> None:
    leave(store, None, **fence)
    result = ckpt("resume", "--store", store, "sim")
    assert result.returncode == 2
    assert words in result.stderr
    assert "fix:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        "", "-", "-u -", "- 3 4", "-i", "-X dev -W error", "-Xdev -", "-uX dev", "--check-hash-based-pycs always -",
        "/dev/fd/63", "/dev/stdin",
    ],
)  # fmt: skip
def test_resume_of_a_program_from_a_stream_is_refused(words: str, store: Path) -> None:
    leave(store, None, command=[sys.executable, *words.split()])
    result = ckpt("resume", "--store", store, "sim", stdin=subprocess.DEVNULL)
    assert result.returncode == 2
    assert "its program came from standard input" in result.stderr
    assert f"give the same program to Python as before with CKPT_STORE={store}, and" in result.stderr
    assert "resuming" not in result.stderr


@pytest.mark.parametrize("words", [["-c"], ["-uc"], ["-X", "dev", "-c"], ["-Wignore", "-c"]], ids=" ".join)
def test_resume_starts_a_program_of_the_command_line(words: list[str], store: Path) -> None:
    leave(store, None, command=[sys.executable, *words, "print('there')", "-"])
    assert ckpt("resume", "--store", store, "sim").stdout == "there\n"


def test_resume_starts_modules_files_and_other_programs(store: Path, tmp_path: Path) -> None:
    (tmp_path / "there.py").write_text("print('there')")
    for command in ([sys.executable, "-m", "there"], [sys.executable, "there.py", "-"], ["/bin/echo", "there"]):
        leave(store, None, command=command, cwd=str(tmp_path))
        assert ckpt("resume", "--store", store, "sim").stdout == "there\n"
    leave(store, None, command=["/bin/pwd"], cwd=str(tmp_path))
    assert ckpt("resume", "--store", store, "sim").stdout == f"{tmp_path}\n"


def test_run_restarts_and_says_so_in_one_line_each(tmp_path: Path) -> None:
    program = f"""
import os, sys
with open({str(tmp_path / "starts")!r}, "a") as file: file.write("x")
sys.exit(0 if os.path.getsize({str(tmp_path / "starts")!r}) == 3 else 75)
"""
    result = ckpt("run", "--backoff", "1ms..2ms", "--restarts", "5", "--", sys.executable, "-c", program)
    assert result.returncode == 0
    assert (tmp_path / "starts").read_text() == "xxx"
    lines = result.stderr.splitlines()
    assert [line.split(" was ")[0] for line in lines] == ["ckpt run: attempt 1", "ckpt run: attempt 2"]


def test_run_gives_up_with_the_jobs_status() -> None:
    result = ckpt("run", "--restarts", "0", sys.executable, "-c", "raise SystemExit(9)")
    assert result.returncode == 9
    assert "giving up" in result.stderr


def test_run_passes_options_and_output_of_the_job_through() -> None:
    result = ckpt("run", "--", "echo", "--store", "-h")
    assert (result.returncode, result.stdout, result.stderr) == (0, "--store -h\n", "")
    assert ckpt("run", "printf", "%s", "--json").stdout == "--json"


def test_run_names_the_option_that_was_meant() -> None:
    result = ckpt("run", "--restart", "3", "--", "true")
    assert result.returncode == 2
    for words in ("No such option", "--restart", "Did you mean", "--restarts"):
        assert words in result.stderr, result.stderr


def test_run_sets_the_store_for_the_job(store: Path) -> None:
    result = ckpt("run", "--store", store, "--", sys.executable, "-c", REPORT.format(0))
    assert result.stdout.split()[1] == str(store)


def test_run_ends_with_the_signal_that_killed_the_job() -> None:
    result = ckpt("run", "--restarts", "0", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert result.returncode == 128 + signal.SIGKILL
    assert "SIGKILL" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--backoff", "often", "--", "true"],
        ["run", "--backoff", "9s..1s", "--", "true"],
        ["run", "--hang-timeout", "soon", "--", "true"],
        ["run", "--restarts", "-1", "--", "true"],
        ["run", "--", "/no/such/program"],
        ["resume"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_a_message_and_status_2(words: list[str]) -> None:
    result = ckpt(*words)
    assert result.returncode == 2
    assert result.stderr
    assert "Traceback" not in result.stderr
