"""``ckpt demo`` does what it says, and says so when the results differ."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from ckpt.cli import cli


def test_the_demo_kills_resumes_and_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckpt.cli.demo.PLAIN_S", 3.0)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 0, result.output
    assert "equal to the last bit" in result.output
    attempts = re.findall(r"attempt \d.*", result.output)
    assert len(attempts) == 5
    assert all("✗" in line and "killed at" in line for line in attempts[:-1])
    assert any("resumed behind" in line for line in attempts[1:])
    assert "finished in" in attempts[-1]
    assert "steps: 6 were needed, " in result.output
    assert re.search(r"the job stood still for .* %", result.output)
    assert "the recorded result, at once" in result.output
    assert "\x1b" not in result.output


def test_the_demo_ends_with_status_1_if_the_results_differ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ckpt.cli.demo.PLAIN_S", 0.3)
    from ckpt.cli.demo import JOB

    source = JOB.read_text()
    wrong = tmp_path / "demo_job.py"
    wrong.write_text(source.replace("rng = random.Random(1)", "rng = random.Random()"))
    assert wrong.read_text() != source
    monkeypatch.setattr("ckpt.cli.demo.JOB", wrong)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 1
    assert "THE RESULTS DIFFER" in result.output


def test_the_demo_shows_what_a_job_that_fails_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = tmp_path / "demo_job.py"
    wrong.write_text("raise SystemExit('no luck today')")
    monkeypatch.setattr("ckpt.cli.demo.JOB", wrong)
    result = CliRunner().invoke(cli, ["demo"])
    assert result.exit_code == 1
    assert "no luck today" in result.output


def test_the_demo_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ckpt.cli.demo.PLAIN_S", 0.3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["demo"]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert list((tmp_path / "scratch").iterdir()) == []
