"""``ckpt reset`` refuses what is not possible before it asks, and names no options that it does not have."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result
from unit.runs import make_run, start_live_run

from ckpt.cli.main import cli


def command(*words: str, store: str | Path) -> Result:
    return CliRunner().invoke(cli, [*words, "--store", str(store)])


def test_reset_that_is_not_possible_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    url = tmp_path / "store"
    make_run(url, "sim", "over", status="finished")
    make_run(url, "sim", "open", status=None)
    finished = command("reset", "sim/over", "--to", "1", store=url)
    unknown = command("reset", "sim/open", "--to", "9", store=url)
    process = start_live_run(url, "sim", "live")
    try:
        live = command("reset", "sim/live", "--to", "1", store=url)
        removed = command("rm", "sim/live", "--yes", store=url)
    finally:
        process.kill()
        process.wait()
    for result, says in [(finished, "finished"), (unknown, "checkpoint 9 is not kept"), (live, "runs it")]:
        assert says in result.output
        assert "y/N" not in result.output
    assert [one.exit_code for one in (finished, unknown, live, removed)] == [2, 2, 3, 3]
    for result in (live, removed):
        assert "wait=" not in result.output, "the command has no such option"
        assert f"kill {process.pid}" in result.output
    asked = command("reset", "sim/open", "--to", "1", store=url)
    assert "take sim/open back to checkpoint 1? [y/N]" in asked.output
    assert asked.exit_code == 2, "nobody answered"


def test_commands_that_ask_say_how_not_to_be_asked_where_nobody_answers(tmp_path: Path) -> None:
    url = tmp_path / "store"
    make_run(url, "sim", "open", status=None)
    for words in (["rm", "sim"], ["rm", "--older-than", "0s"], ["reset", "sim", "--to", "1"]):
        unanswered = command(*words, store=url)
        assert f"{words[0]}: there is nobody to answer" in unanswered.output
        assert "say --yes (-y)" in unanswered.output
        assert "Aborted" not in unanswered.output
        assert unanswered.exit_code == 2
    assert "sim/open" in command("ls", store=url).output


def test_rm_of_a_live_run_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    url = tmp_path / "store"
    process = start_live_run(url, "sim", "live")
    try:
        refused = command("rm", "sim", store=url)
    finally:
        process.kill()
        process.wait()
    assert "runs it" in refused.output
    assert "y/N" not in refused.output
    assert refused.exit_code == 3
