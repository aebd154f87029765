"""What changes between two attempts: the job's code, its helpers' code, its input, the files that it reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from crash.harness import Attempt, ForkHost, Form, Kill, Script, finish

PROGRAM = """\
import sys
import ckpt
from programs.bits import report
from programs.ticks import tick

def unrelated(x):
    return x

def helper(x):
    return x * 2

@ckpt.job{options}
def work(n):
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        total += helper(i)
    return total

if __name__ == "__main__":
    report(work(10))
"""
EVERY = {"CKPT_EVERY": "1it", "SETTLE_S": "0.1"}


def killed_script(folder: Path, options: str = "") -> Script:
    """A script killed in its sixth iteration; its text may be changed before it is run again."""
    path = folder / "work.py"
    path.write_text(PROGRAM.replace("{options}", options))
    script = Script(path, folder, env=EVERY)
    assert script.run(Kill(tick=6)).killed
    return script


def changed(script: Script, old: str, new: str) -> Attempt:
    text = script.path.read_text()
    assert old in text
    script.path.write_text(text.replace(old, new))
    return script.run()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    total = 0\n", "    # a comment\n\n    total = 0  # another\n"),
        ("def work(n):\n", 'def work(n):\n    """A docstring,\n    of two lines."""\n\n'),
        ("import sys\n", "import sys\n\n\n\nimport os\n"),
        ("total += helper(i)", "total += (\n            helper( i )\n        )"),
        ("return x\n", "return x + 17\n"),
    ],
    ids=["comment", "docstring", "lines-above", "formatting", "function-not-called"],
)
def test_what_is_not_code_of_the_job_does_not_count(old: str, new: str, tmp_path: Path) -> None:
    attempt = changed(killed_script(tmp_path, '(on_code_change="fail")'), old, new)
    assert attempt.status == 0, attempt.err
    assert attempt.result == 90
    assert "resum" in attempt.err


HELPER = ("return x * 2", "return x * 100")
BODY = ("total += helper(i)", "total += helper(i) + 1")


@pytest.mark.parametrize(("change", "name"), [(HELPER, "helper"), (BODY, "work")], ids=["helper", "body"])
def test_fail_refuses_and_names_what_changed(change: tuple[str, str], name: str, tmp_path: Path) -> None:
    script = killed_script(tmp_path, '(on_code_change="fail")')
    attempt = changed(script, *change)
    assert attempt.status == 1
    assert "CodeChangedError" in attempt.err
    assert name in attempt.err.rpartition("CodeChangedError")[2]
    back = changed(script, change[1], change[0])
    assert back.result == 90, f"the run was to stay as it was\n{back.err}"


def mixtures(change: tuple[str, str]) -> list[int]:
    """The results with the first one to five iterations done by the old code: which, is up to the last checkpoint."""
    new = (lambda i: i * 100) if change is HELPER else (lambda i: i * 2 + 1)
    return [sum(i * 2 for i in range(k)) + sum(map(new, range(k, 10))) for k in range(1, 6)]


@pytest.mark.parametrize(("change", "name"), [(HELPER, "helper"), (BODY, "work")], ids=["helper", "body"])
def test_warn_names_what_changed_and_goes_on(change: tuple[str, str], name: str, tmp_path: Path) -> None:
    attempt = changed(killed_script(tmp_path), *change)
    assert attempt.status == 0, attempt.err
    assert attempt.result in mixtures(change), attempt.err
    assert "changed" in attempt.err
    assert name in attempt.err


def test_resume_goes_on_without_a_word_about_the_change(tmp_path: Path) -> None:
    attempt = changed(killed_script(tmp_path, '(on_code_change="resume")'), *BODY)
    assert attempt.result in mixtures(BODY), attempt.err
    assert "changed" not in attempt.err


def test_fresh_starts_again_with_the_new_code(tmp_path: Path) -> None:
    attempt = changed(killed_script(tmp_path, '(on_code_change="fresh")'), *HELPER)
    assert attempt.result == sum(i * 100 for i in range(10)), attempt.err


def test_finished_run_with_changed_code_says_so(tmp_path: Path) -> None:
    path = tmp_path / "work.py"
    path.write_text(PROGRAM.replace("{options}", '(on_code_change="fail")'))
    script = Script(path, tmp_path)
    assert script.run().result == 90
    attempt = changed(script, *BODY)
    assert attempt.status == 1, "the recorded result is another program's"
    assert "CodeChangedError" in attempt.err


ITEMS = ["a", "b", "c", "d", "e", "f"]


def run_with_input(form: Form, before: list[str], after: list[str], kill_at: int = 4) -> Attempt:
    form.folder.mkdir(parents=True, exist_ok=True)
    (form.folder / "items.json").write_text(json.dumps(before))
    assert form.run(Kill(tick=kill_at), **EVERY).killed
    (form.folder / "items.json").write_text(json.dumps(after))
    return form.run(**EVERY)


@pytest.mark.parametrize("name", ["input_by_position", "input_from_a_generator"])
def test_items_inserted_before_the_resume_point_are_refused(name: str, fork_host: ForkHost, scratch: Path) -> None:
    attempt = run_with_input(Form(fork_host, name, scratch), ITEMS, ["new", *ITEMS])
    assert attempt.status == 1
    said = attempt.err.rpartition("InputChangedError")[2]
    assert said, attempt.err
    assert re.search(r"\d", said), "the position"
    assert re.search(r"'[a-c]'", said), "the items"


@pytest.mark.parametrize("name", ["input_by_position", "input_from_a_generator"])
def test_input_that_became_too_short_is_refused(name: str, fork_host: ForkHost, scratch: Path) -> None:
    attempt = run_with_input(Form(fork_host, name, scratch), ITEMS, ["a", "b"])
    assert attempt.status == 1
    assert "InputChangedError" in attempt.err


@pytest.mark.parametrize("name", ["input_by_position", "input_from_a_generator"])
def test_items_added_behind_the_resume_point_are_processed(name: str, fork_host: ForkHost, scratch: Path) -> None:
    attempt = run_with_input(Form(fork_host, name, scratch), ITEMS, [*ITEMS, "g"])
    assert attempt.result == [*ITEMS, "g"], attempt.err


@pytest.mark.parametrize("after", [[*ITEMS, "g"], ITEMS[:5]])
@pytest.mark.parametrize(
    "name", ["input_of_a_block_in_a_variable", "input_of_a_block_around_an_inner_loop", "queue_of_a_block_that_grows"]
)
def test_input_of_a_block_that_became_longer_or_shorter_is_refused(
    name: str, after: list[str], fork_host: ForkHost, scratch: Path
) -> None:
    attempt = run_with_input(Form(fork_host, name, scratch), ITEMS, after)
    assert attempt.status == 1, attempt.err
    said = attempt.err.rpartition("InputChangedError")[2]
    assert f"had 6 items when the checkpoint was taken, and has {len(after)} items now" in said, attempt.err
    assert "ckpt rm" in said, "a block has no fresh=True"


def test_list_that_a_block_itself_makes_longer_is_no_changed_input(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "queue_of_a_block_that_grows", scratch)
    attempt = run_with_input(form, ITEMS, ITEMS)
    assert attempt.result == [*ITEMS, *(item * 2 for item in ITEMS)], attempt.err
    again = form.run(**EVERY)
    assert again.result == attempt.result, "a block that is finished gives its last state"


@pytest.mark.parametrize(
    "after",
    [
        ["new", *ITEMS, "last"],
        ["d", "e", "f"],
        ITEMS[::-1],
        ["f", "x", "a", "e", "y", "d"],
        [],
        ["x", "y"],
        ["a", "c", "e", "b"],
    ],
    ids=["inserted", "removed-done", "reversed", "shuffled", "emptied", "replaced", "removed-open"],
)
def test_with_a_key_every_item_is_processed_exactly_once(after: list[str], fork_host: ForkHost, scratch: Path) -> None:
    attempt = run_with_input(Form(fork_host, "input_by_key", scratch), ITEMS, after)
    assert attempt.status == 0, attempt.err
    result = attempt.result
    assert isinstance(result, list)
    done = next(k for k in range(4) if k == 3 or result[k : k + 1] != ITEMS[k : k + 1] or k == len(result))
    assert done >= 1, "nothing was checkpointed before the kill"
    assert max(Counter(result).values()) == 1, "an item was processed twice"
    assert set(after) <= set(result) <= {*ITEMS[:3], *after}


def test_with_a_key_items_that_came_back_are_the_variables_own_and_new_ones_are_new(
    fork_host: ForkHost, scratch: Path
) -> None:
    attempt = run_with_input(Form(fork_host, "rows_by_key_in_a_variable", scratch), ITEMS, ["x", "f", "e", "a", "d"])
    assert attempt.status == 0, attempt.err
    result = attempt.result
    assert isinstance(result, dict), result
    done, kept = result["tuple"]
    processed = dict(done)
    assert len(processed) == len(done), "an item was processed twice"
    assert {"a", "x", "f", "e", "d"} <= processed.keys()
    assert processed == {name: name in ITEMS for name in processed}, "only x is no row of the variable"
    assert [row for row in kept if len(row) != 1 + (row[0] in processed)] == [], "each is changed once where it counts"


def test_with_a_key_a_second_change_is_handled_too(fork_host: ForkHost, scratch: Path) -> None:
    form = Form(fork_host, "input_by_key", scratch)
    scratch.mkdir(exist_ok=True)
    for items, kill in ((ITEMS, 3), (["z", *ITEMS], 2), (["f", "e", "z", "q", "b"], 2)):
        (scratch / "items.json").write_text(json.dumps(items))
        assert form.run(Kill(tick=kill), **EVERY).killed
    (scratch / "items.json").write_text(json.dumps(["p", "q", "e", "a", "z"]))
    attempt = form.run(**EVERY)
    result = attempt.result
    assert isinstance(result, list), attempt.err
    assert len(result) == len(set(result)), "an item was processed twice"
    assert {"p", "q", "e", "a", "z", "b"} <= set(result)


@pytest.mark.parametrize("name", ["lines_of_a_file_and_one_beside", "binary_file_beside_the_loop"])
@pytest.mark.parametrize("every", ["1it", "2it"])
def test_files_open_for_reading_come_back_at_their_position(
    name: str, every: str, fork_host: ForkHost, scratch: Path
) -> None:
    lines = [f"line {i} ü{'x' * (i * 7)}\n" for i in range(9)]
    results = []
    for kills in ([], [1], [2], [3], [5], [3, 2, 2]):
        folder = scratch / "-".join(map(str, ["k", *kills]))
        folder.mkdir(parents=True)
        (folder / "input.txt").write_text("".join(lines))
        (folder / "beside.txt").write_text("".join(reversed(lines)))
        outcome = finish(Form(fork_host, name, folder), [Kill(tick=t) for t in kills], CKPT_EVERY=every)
        assert outcome.last.status == 0, outcome.story()
        results.append(outcome.last.result)
    assert all(result == results[0] for result in results), results
