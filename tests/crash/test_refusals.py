"""What cannot be restored faithfully is refused at the first safe point, with the variable's name and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.harness import ForkHost, Form, Kill

REFUSED = {
    "captures_a_generator": "numbers",
    "captures_a_generator_in_a_dict": "table['numbers']",
    "captures_a_zip_iterator_over_a_generator": "pairs",
    "captures_a_file_open_for_writing": "out",
    "captures_a_temporary_file": "scratch",
    "captures_a_file_open_for_appending": "model.log",
    "captures_a_held_lock": "guard",
    "captures_a_held_lock_in_an_object": "model.guard",
    "captures_an_object_that_cannot_be_pickled": "model.optimizer.hook",
    "captures_a_socket_in_a_list": "items[2]",
    "captures_a_thread": "worker",
    "captures_a_child_process": "child",
    "holds_an_exception_that_waits_for_finally": "waits",
    "holds_an_exception_that_is_raised_again": "waits",
    "holds_a_result_that_was_picked_from_a_list": "variable log",
    "captures_a_helpers_generator": "words",
}


@pytest.mark.parametrize(("name", "variable"), REFUSED.items())
def test_is_refused_at_the_first_safe_point_by_name(
    name: str, variable: str, fork_host: ForkHost, scratch: Path
) -> None:
    attempt = Form(fork_host, name, scratch).run()
    assert attempt.status == 1, f"it ran: {attempt.out}{attempt.err}"
    said = attempt.err.rpartition("ckpt.errors.UncapturableError:")[2]
    assert said, attempt.err
    assert variable in said, said
    assert "fix:" in said, "the line to add"
    assert "ITERATED" not in attempt.out, "an item was processed before the refusal"


REMADE = [
    "keeps_an_unlocked_lock",
    "keeps_a_logger_and_modules",
    "keeps_what_recreate_names",
    "keeps_an_rlock_in_an_object",
]


@pytest.mark.parametrize("name", REMADE)
def test_what_the_code_makes_again_is_no_reason_to_refuse(name: str, fork_host: ForkHost, scratch: Path) -> None:
    expected = Form(fork_host, name, scratch / "plain").run(CKPT_DISABLE="1")
    assert expected.status == 0, expected.err
    form = Form(fork_host, name, scratch / "run")
    killed = form.run(Kill(tick=4), CKPT_EVERY="1it")
    assert killed.killed, killed.err
    resumed = form.run(CKPT_EVERY="1it")
    assert resumed.status == 0, resumed.err
    assert resumed.result == expected.result


def test_a_value_that_turns_bad_later_is_refused_by_name_and_the_run_stays_good(
    fork_host: ForkHost, scratch: Path
) -> None:
    form = Form(fork_host, "turns_bad_later", scratch)
    attempt = form.run(CKPT_EVERY="1it")
    assert attempt.status == 1, attempt.out
    assert "UncapturableError" in attempt.err
    assert "late" in attempt.err.rpartition("UncapturableError")[2]
