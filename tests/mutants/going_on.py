"""The protecting lines of where and when a run goes on: recovery, retention, maps, and when checkpoints come."""

from __future__ import annotations

from mutants.mutant import Mutant

_LOGGED = "tests/unit/test_logged.py"
_BACK = "tests/unit/test_store_going_back.py"
_BRANCHES = "tests/property/test_branching_machine.py"

GOING_ON = (
    Mutant(
        "the log is let go of as if there were no logged objects", "3", "session/saving.py",
        "retention.committed(lsn, needed_from(request.head), packs,", 'retention.committed(lsn, request.head["covers"], packs,',
        _LOGGED, "test_log_is_kept_as_long_as_no_image_stands_for_it",
    ),
    Mutant(
        "an older checkpoint stands in for one that positions rest on", "2", "recovery.py",
        "        if names_later_checkpoint(one, point.head):", "        if False:",
        _LOGGED, "test_checkpoint_that_positions_rest_on_is_not_replaced_by_an_older_one",
    ),
    Mutant(
        "how a run is started is trimmed away", "3", "retention.py",
        "        if lsn_slot(before) > max(self._told_in, self._log.floor):", "        if False:",
        "tests/unit/test_retention.py", "test_how_to_start_the_run_again_survives_every_trim_and_is_not_told_with_every_checkpoint",
    ),
    Mutant(
        "a fork is named like a run whose packs it shares", "3", "store/branching.py",
        "    if run_id in ancestors:", "    if False:",
        "tests/unit/test_store_sharing.py", "test_the_name_of_a_run_whose_packs_are_shared_is_not_taken",
    ),
    Mutant(
        "an older checkpoint does without what the newest one did not need", "3", "session/attempt.py",
        "            if needs_left_out(view, resume):", "            if False:",
        "tests/unit/test_recovery.py", "test_run_that_goes_on_from_an_older_checkpoint_executes_no_step_again",
    ),
    Mutant(
        "a checkpoint that was in flight hides positions that went on", "3", "recovery.py",
        "            return checkpoints[place:]", "            break",
        _LOGGED, "test_positions_go_on_while_a_checkpoint_with_an_image_is_in_flight",
    ),
    Mutant(
        "a map's results are handed out before they are recorded", "3", "mapping/engine.py",
        "self._settle(batch)  # Commit point of these items", "threading.Timer(0.3, self._settle, (batch,)).start()  # late",
        "tests/unit/test_map_log.py", "test_a_result_is_in_the_log_before_it_is_handed_out",
    ),
    Mutant(
        "what a map has finished and not recorded is not in hand", "8", "mapping/engine.py",
        "        return len(self._flow.flights) + unrecorded / self.chunk\n", "        return len(self._flow.flights)\n",
        "tests/unit/test_map_engine.py", "test_what_is_finished_and_not_recorded_yet_counts_as_in_hand",
    ),
    Mutant(
        "what has landed and is not handed over is not in hand", "8", "mapping/engine.py",
        "        unrecorded = len(self._flow.finished) + self._finished - self._recorded\n",
        "        unrecorded = self._finished - self._recorded\n",
        "tests/unit/test_map_engine.py", "test_what_is_finished_and_not_recorded_yet_counts_as_in_hand",
    ),
    Mutant("ckpt's threads wait for their turn as long as others", "8", "session/turns.py", "TURN_S = 0.0005", "TURN_S = 0.005",
           "tests/unit/test_turns.py", "test_while_a_run_is_alive_a_thread_waits_half_a_millisecond_for_its_turn"),
    Mutant(
        "a budget has no bound on the work at risk", "8", "triggers.py",
        "min(self._budget_s(), self._bound_s()))", "self._budget_s())",
        "tests/unit/test_triggers.py", "test_work_at_risk_is_bounded_whatever_checkpoints_cost_and_storages_take",
    ),
    Mutant(
        "one cost that was measured wrong moves the bound", "8", "triggers.py",
        "        return known[(len(known) - 1) // 2] if known else 0.0\n", "        return max(known, default=0.0)\n",
        "tests/unit/test_triggers.py",
        "test_clock_that_jumps_by_a_day_during_a_checkpoint_puts_no_more_than_the_bound_at_risk",
    ),
    Mutant(
        "a checkpoint that was moved looks for logged operations where they were", "3", "recovery.py",
        '        found[LOGGED] = {**head[LOGGED], "after": lsn}\n', "        pass\n",
        "tests/unit/test_store_repair.py",
        "test_a_repair_takes_along_what_maps_and_logged_objects_need_from_before_the_checkpoint",
    ),
    Mutant(
        "a checkpoint that was moved looks for results of maps where they were", "3", "recovery.py",
        '        found["maps_since"] = lsn\n', "        pass\n",
        "tests/unit/test_store_repair.py",
        "test_a_repair_takes_along_what_maps_and_logged_objects_need_from_before_the_checkpoint",
    ),
    Mutant(
        "what a map needs of the log is not kept", "5", "session/saving.py",
        "        maps_since = min(self._recorded.first_needed(root) - 1, covers)\n", "        maps_since = covers\n",
        "tests/unit/test_map_log.py", "test_results_in_front_of_a_long_loop_do_not_keep_what_comes_behind_them",
    ),
    Mutant(
        "an older checkpoint decides what of the log the newest one needs", "3", "retention.py",
        "min(min(one.needed_from, one.lsn) for one in self._kept)", "min(self._kept[0].needed_from, self._kept[0].lsn)",
        _BACK, "test_what_the_run_was_taken_back_to_stays_while_older_checkpoints_rest_on_less",
    ),
    Mutant(
        "what the run was taken back over counts again with a later checkpoint", "1", "recovery.py",
        "        if VOID in record.head and (", "        if VOID in record.head and not found and record is history.checkpoints[-1] and (",
        _BACK, "test_what_the_run_was_taken_back_over_does_not_come_back_with_a_later_checkpoint",
    ),
    Mutant(
        "positions that the run was taken back over count", "1", "recovery.py",
        "            found.append((at, last))\n", "            pass\n",
        _BACK, "test_positions_that_a_run_was_taken_back_over_do_not_count",
    ),
    Mutant(
        "a reset forgets what the checkpoint was taken back over before", "1", "store/branching.py",
        "VOID: [rests_to(record.head), log.position]", 'VOID: [int(record.head["covers"]), log.position]',
        _BACK, "test_a_run_can_be_taken_back_to_what_it_was_taken_back_to",
    ),
    Mutant(
        "a checkpoint that was moved does not tell how far it rests", "3", "recovery.py",
        "    found[RESTS_TO] = ", "    _ = ",
        _BACK, "test_forks_rest_on_the_same_whether_forked_or_reset_again",
    ),
    Mutant(
        "results that the run was taken back over count from its beginning", "1", "recovery.py",
        "    return _results_since(counting(history), -1)", "    return _results_since(history.operations, -1)",
        _BACK, "test_what_was_taken_back_does_not_come_back_at_the_beginning_either",
    ),
    Mutant(
        "a reset goes by what it saw in front of its FENCE", "1", "store/branching.py",
        "            origin = _to_go_back_to(root, names, number)\n", "",
        _BACK, "test_a_reset_looks_again_behind_its_fence",
    ),
    Mutant(
        "items in front of the resume point are executed for nothing", "5", "session/mapjournal.py",
        "with_marks=not self._passed_by()", "with_marks=True",
        "tests/unit/test_map_retry.py", "test_items_in_front_of_the_resume_point_are_not_executed_for_nothing",
    ),
    Mutant(
        "items that were marked and not reached are forgotten", "5", "letters.py",
        '                self._marked.add((head["map"], item))\n',
        '                self._letters.pop((head["map"], item), None)\n                self._marked.add((head["map"], item))\n',
        "tests/unit/test_map_retry.py", "test_items_in_front_of_the_resume_point_are_not_executed_for_nothing",
    ),
    Mutant(
        "what a run goes on from is let go of before what it passed over", "3", "recovery.py",
        "key=lambda one: (one.lsn in count, one.lsn)", "key=lambda one: one.lsn",
        _BRANCHES, "test_what_positions_rest_on_is_kept_whatever_was_stored_behind_it",
    ),
    Mutant(
        "what counts less than it could goes before its time", "3", "recovery.py",
        "history.needed() + history.checkpoints[-keep:]", "history.checkpoints[-keep:]",
        _BRANCHES, "test_what_is_kept_in_front_of_what_a_run_was_taken_back_to_stays",
    ),
    Mutant(
        "verify asks for what the run was taken back over", "3", "store/branching.py",
        "for one in origin.history.needed() if one.lsn <= rests_to(record.head)]", "for one in origin.history.needed()]",
        _BRANCHES, "test_what_a_run_was_taken_back_to_is_what_verify_asks_for",
    ),
    Mutant(
        "the number of a checkpoint that was passed over is given again", "1", "session/attempt.py",
        "last_number=history.last_number,", 'last_number=0 if resume is None else int(resume.head["number"]),',
        "tests/unit/test_recovery.py", "test_no_two_checkpoints_of_a_run_have_the_same_number",
    ),
    Mutant(
        "verify does not ask whether the run can go on", "3", "store/verifying.py",
        "    problems += _dead_end(names, view)\n", "",
        _BACK, "test_verify_sees_what_a_resume_would_miss",
    ),
    Mutant(
        "a state is looked at before it is asked who writes it", "2", "session/run.py",
        "if not self._saving.busy and kept.staged is not None:", "if kept.staged is not None and not self._saving.busy:",
        "tests/unit/test_session_letting_go.py", "test_a_write_may_end_just_when_its_state_is_let_go_of",
    ),
    Mutant(
        "a process that resumes begins with a checkpoint", "8", "session/saving.py",
        "            tell_resumed(", "            print(",
        "tests/unit/test_session_resuming.py", "test_first_checkpoint_of_a_process_that_resumes_is_due_as_if_it_had_just_taken_one",
    ),
    Mutant(
        "the first of two runs side by side takes the short turns along when it ends", "8", "session/turns.py",
        "            if not _alive:\n                _restore()\n", "            _restore()\n",
        "tests/unit/test_turns.py", "test_runs_side_by_side_have_it_until_the_last_one_ends",
    ),
    Mutant(
        "a checkpoint imports beside the job", "8", "snapshot/writer.py",
        "        _load_modules()\n", "",
        "tests/unit/test_first_checkpoint.py", "test_what_a_checkpoint_imports_is_there_before_the_job_runs",
    ),
)  # fmt: skip
