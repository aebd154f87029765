"""The protecting lines: where each stands, what stands there instead in the mutant, and which test notices it."""

from __future__ import annotations

from mutants.capturing import CAPTURING
from mutants.going_on import GOING_ON
from mutants.mutant import Mutant

_LOCAL = "tests/unit/test_storage_local.py"
_TAKEOVER, _WRITER = "tests/unit/test_log_takeover.py", "tests/unit/test_log_writer.py"
_LOG_DAMAGE, _SNAPSHOT_DAMAGE = "tests/unit/test_log_damage.py", "tests/unit/test_snapshot_damage.py"
_LOGGED = "tests/unit/test_logged.py"
_ALIASES, _STRATEGIES = "tests/unit/test_staging_aliases.py", "tests/crash/test_staging_strategies.py"

MUTANTS = (
    Mutant(
        "a new file is not synced before it is linked", "3", "storage/local.py",
        "                sync_data(fd)\n                created = link_if_absent", "                created = link_if_absent",
        _LOCAL, "test_data_is_durable_before_its_name_and_the_folders_after",
    ),
    Mutant(
        "a replaced file is not synced before it is renamed", "3", "storage/local.py",
        "                sync_data(fd)\n                os.replace", "                os.replace",
        _LOCAL, "test_data_is_durable_before_its_name_and_the_folders_after",
    ),
    Mutant(
        "the folder of a shared file is not synced", "3", "storage/local.py",
        "same file already\n        self._sync_names(path.parent)\n", "same file already\n",
        "tests/unit/test_store_sharing.py", "test_second_name_of_a_file_is_durable_with_its_folders",
    ),
    Mutant(
        "the folder of a new file is not synced", "3", "storage/local.py",
        "            if created:\n                self._sync_names(path.parent)\n", "",
        _LOCAL, "test_data_is_durable_before_its_name_and_the_folders_after",
    ),
    Mutant(
        "a file is created by a rename, which replaces", "6", "storage/files.py",
        "        os.link(temporary, final)  # Commit point.", "        os.replace(temporary, final)",
        _LOCAL, "test_put_if_absent_has_one_winner_among_threads",
    ),
    Mutant(
        "a link whose answer was lost counts as lost", "9", "storage/files.py",
        "        if os.fstat(fd).st_nlink > 1:\n            return True\n", "",
        _LOCAL, "test_lost_answer_of_the_link_is_a_win",
    ),
    Mutant(
        "appends are not synced", "3", "storage/files.py",
        "                sync_data(self._fd)", "                pass",
        _LOCAL, "test_sync_makes_appends_durable",
    ),
    Mutant(
        "a file whose sync failed is synced again", "9", "storage/files.py",
        "            # The kernel may drop the dirty pages and report success next time: never sync this file again.\n"
        "            self._broken = True\n", "",
        _LOCAL, "test_failed_sync_breaks_the_file_for_good",
    ),
    Mutant(
        "half an append stays in the file", "4", "storage/files.py",
        "            os.ftruncate(self._fd, self._length)", "            pass",
        _LOCAL, "test_failing_append_leaves_the_end_where_it_was",
    ),
    Mutant(
        "an append is acknowledged before it is synced", "3", "log/tail.py",
        "            file.sync()\n", "            pass\n",
        _WRITER, "test_acknowledged_record_survives_a_power_loss_and_a_queued_one_need_not",
    ),
    Mutant(
        "a file whose sync failed is appended to", "9", "log/tail.py",
        '''and a second fsync would say "yes" without writing: never again.
            self._leave()
''', '''and a second fsync would say "yes" without writing: never again.
''',
        _WRITER, "test_file_whose_sync_failed_is_left_behind",
    ),
    Mutant(
        "an append does not look for a successor", "6", "log/tail.py",
        "        self.check_current()\n\n", "\n",
        _TAKEOVER, "test_zombie_that_appends_during_a_takeover_is_seen_or_fenced",
    ),
    Mutant(
        "a created slot may have been used and swept", "6", "log/tail.py",
        "        if head != self.head:\n            raise", "        if False:\n            raise",
        _TAKEOVER, "test_zombie_whose_segments_were_swept_is_fenced_without_a_next_slot",
    ),
    Mutant(
        "whoever finds the slot taken has lost it", "9", "log/tail.py",
        "None if found.nonce == segment.nonce else found", "found",
        _TAKEOVER, "test_lost_answer_to_the_fence_is_no_lost_fence",
    ),
    Mutant(
        "whoever finds the slot taken has won it", "6", "log/tail.py",
        "None if found.nonce == segment.nonce else found", "None",
        _TAKEOVER, "test_of_attempts_with_one_epoch_exactly_one_wins",
    ),
    Mutant(
        "an equal or higher epoch is stepped over", "6", "log/takeover.py",
        "        if created.other.epoch >= epoch:\n", "        if False:\n",
        _TAKEOVER, "test_of_attempts_with_one_epoch_exactly_one_wins",
    ),
    Mutant(
        "a new attempt has the epoch of the last", "6", "log/takeover.py",
        "    epoch = tip.epoch + 1\n", "    epoch = max(1, tip.epoch)\n",
        _TAKEOVER, "test_view_holds_everything_acknowledged_before",
    ),
    Mutant(
        "a FENCE in a slot that was swept counts", "6", "log/takeover.py",
        "    if swept:\n        raise", "    if False:\n        raise",
        _TAKEOVER, "test_sleeper_whose_slot_was_swept_meanwhile_has_lost",
    ),
    Mutant(
        "what a killed process wrote without a sync is built upon", "3", "log/takeover.py",
        "            place.storage.make_durable(place.names.segment(seal.slot))", "            pass",
        _TAKEOVER, "test_written_but_unsynced_records_are_made_durable_before_they_are_built_upon",
    ),
    Mutant(
        "a segment may be other than what was sealed", "4", "log/view.py",
        "        if not parsed.damages and not seal.fits(parsed):", "        if False:",
        _LOG_DAMAGE, "test_sealed_segment_rolled_back_to_an_earlier_whole_record_is_listed",
    ),
    Mutant(
        "bytes that were verified once are not compared", "2", "log/view.py",
        " or known.data != data", "",
        _TAKEOVER, "test_what_changed_since_an_earlier_look_is_read_and_verified",
    ),
    Mutant(
        "a record's digest is not compared", "10", "format/segment.py",
        "            if stored == computed or self._vouches(stored, computed, end):", "            if True:",
        "tests/unit/test_format_segment.py", "test_every_flipped_bit_is_damage_and_never_torn_or_wrong",
    ),
    Mutant(
        "records are not chained", "10", "format/segment.py",
        "            at, previous = end, stored\n", "            at, previous = end, self._header.seed\n",
        _WRITER, "test_acknowledged_record_survives_a_power_loss_and_a_queued_one_need_not",
    ),
    Mutant(
        "the signature of a segment's header is not compared", "10", "format/segment.py",
        '''    if keyed(signer.derive("segment header"), head[:_SEEDED]) != seed:''', "    if False:",
        _TAKEOVER, "test_foreign_key_is_refused_and_nothing_is_written",
    ),
    Mutant(
        "a segment may stand in another slot", "10", "format/segment.py",
        "    if own_slot != slot or address != _address_digest(signer, names):", "    if False:",
        _LOG_DAMAGE, "test_swapped_and_repeated_segments_are_listed",
    ),
    Mutant(
        "an end that was cut in its first record is taken for torn", "4", "format/segment.py",
        "        if self._count == 0:  # torn is", "        if False:  # torn is",
        "tests/unit/test_format_segment.py", "test_every_cut_is_torn_at_a_record_or_damage_in_what_is_created_whole",
    ),
    Mutant(
        "a trim does not say in the log how far it goes", "3", "log/writer.py",
        '''            self.append(Kind.SEAL, {"sealed": [], "floor": floor, "when": self._tail.place.clock.now()})''', "            pass",
        _LOG_DAMAGE, "test_damaged_floor_is_mended_from_the_log_by_the_next_attempt",
    ),
    Mutant(
        "a sweep deletes before the floor is raised", "3", "log/writer.py",
        "        place.storage.put(place.names.floor, [encode_floor(place.key, place.names, Floor(floor, self.epoch))])\n        listed",
        "        listed",
        _WRITER, "test_rotation_seals_and_trim_deletes_whole_segments_only",
    ),
    Mutant(
        "a sweep deletes downwards", "6", "log/writer.py",
        "sorted(slot for slot in listed if slot is not None and slot < floor)",
        "sorted((slot for slot in listed if slot is not None and slot < floor), reverse=True)",
        _WRITER, "test_sweep_deletes_upwards_after_the_floor_is_durable_and_stops_at_an_error",
    ),
    Mutant(
        "a chunk's digest is not compared", "10", "snapshot/reader.py",
        "            if layout.chunk_digest(", "            if False and layout.chunk_digest(",
        _SNAPSHOT_DAMAGE, "test_a_flipped_bit_in_a_pack_is_found",
    ),
    Mutant(
        "a manifest's digest is not compared", "10", "snapshot/reader.py",
        "    if layout.manifest_digest(packs.key, encoded) != body.digest:", "    if False:",
        _SNAPSHOT_DAMAGE, "test_a_manifest_that_was_changed_without_the_key_is_found",
    ),
    Mutant(
        "the digest of parts inside a reference is not compared", "10", "snapshot/reader.py",
        "    if layout.inline_digest(key, inline_body(body.lengths, body.codec, body.stored)) != body.digest:",
        "    if False:",
        _SNAPSHOT_DAMAGE, "test_parts_in_a_reference_that_were_changed_without_the_key_are_found",
    ),
    Mutant(
        "a checkpoint's record is written before its packs", "3", "checkpointer.py",
        "        state.ref = self._snapshots.write(state.staged)\n",
        "        import threading\n        done: list[SnapshotRef] = []\n        staged = state.staged\n"
        "        worker = threading.Thread(target=lambda: done.append(self._snapshots.write(staged)))\n"
        "        worker.start(); worker.join()\n        state.ref = done[0]\n"
        "        self._log.append(Kind.CHECKPOINT, {}, [], durable=True)\n",
        "tests/unit/test_checkpointer.py", "test_packs_are_durable_before_the_record_that_names_them",
    ),
    Mutant(
        "packs that a kept checkpoint names are deleted", "3", "retention.py",
        "        gone = packs - {pack for one in self._kept for pack in one.packs}", "        gone = set(packs)",
        "tests/unit/test_retention.py", "test_pack_stays_as_long_as_a_kept_checkpoint_draws_on_it",
    ),
    Mutant(
        "chunks of deleted packs are still believed to be there", "2", "retention.py",
        "        self._snapshots.forget(gone)\n", "",
        "tests/unit/test_retention.py", "test_contents_that_come_back_after_their_pack_is_gone_are_stored_again",
    ),
    Mutant(
        "damage behind a checkpoint is overlooked", "2", "recovery.py",
        "        if last > lsn:\n            raise", "        if False:\n            raise",
        "tests/unit/test_recovery.py", "test_end_of_a_run_that_may_have_been_started_afresh_since_is_not_believed",
    ),
    Mutant(
        "a storage where two creators win is accepted", "6", "storage/probe.py",
        "    if len(won) != 1:", "    if False:",
        "tests/unit/test_storage_remote.py", "test_probe_refuses_a_storage_that_does_not_create_exclusively",
    ),
    Mutant(
        "a key that others can read is used", "10", "keyfile.py",
        "    if mode & 0o077:", "    if False:",
        "tests/unit/test_root.py", "test_key_that_others_can_read_or_change_is_refused",
    ),
    Mutant(
        "staged memory is the job's own", "1", "staging/stager.py",
        "            if source.nbytes < rawmemory.SMALL_COPY:\n                part[:] = source\n",
        "            if source.nbytes < rawmemory.SMALL_COPY:\n                pass\n",
        "tests/unit/test_staging.py", "test_parts_are_the_skeleton_and_the_buffers",
    ),
    Mutant(
        "a large buffer is read where the job has it", "1", "staging/stager.py",
        "                parts[index] = memoryview(regions[-1].memory)[: one.nbytes]", "                parts[index] = sources[index][:]",
        _ALIASES, "test_arrays_that_share_memory_share_it_again_whatever_was_copied",
    ),
    Mutant(
        "pages count as equal if their first bytes are", "1", "staging/watched.py",
        "second + start, stop - start):", "second + start, min(8, stop - start)):",
        _ALIASES, "test_arrays_that_share_memory_share_it_again_whatever_was_copied",
    ),
    Mutant(
        "the edges of a buffer are not compared", "1", "staging/watched.py",
        "            and not (target is not None and rawmemory.equal(target + start, self.address + start, stop - start))",
        "            and target is None",
        _ALIASES, "test_first_and_last_bytes_that_share_pages_with_others_are_copied", asks_kernel=True,
    ),
    Mutant(
        "marks of written pages are cleared after the copy", "1", "staging/watched.py",
        "        self._adapt(size)\n", "        self._adapt(size)\n        self._marked()\n",
        _ALIASES, "test_what_is_written_while_it_is_copied_is_copied_the_next_time", asks_kernel=True,
    ),
    Mutant(
        "the newest patch is put on first", "1", "snapshot/reader.py",
        "        for patch in patches:\n            pack, offset", "        for patch in reversed(patches):\n            pack, offset",
        _ALIASES, "test_arrays_that_share_memory_share_it_again_whatever_was_copied",
    ),
    Mutant(
        "a chunk with patches over it is stored anew under them", "1", "snapshot/images.py",
        " | old) - patched\n", " | old)\n",
        "tests/unit/test_snapshot_patches.py", "test_every_snapshot_reads_back_after_any_changes_failures_and_sweeps",
    ),
    Mutant(
        "the job goes on before its own memory is stored", "1", "session/saving.py",
        "        try:\n            with memory_checked():\n                ref = self._services.snapshots.write(state)\n"
        "        finally:\n            state.release()\n            captured.buffers.clear()\n        return Kept(None, ref, ref.nbytes)",
        "        return Kept(state, None, state.nbytes)",
        f"{_STRATEGIES}::test_killed_at_every_stage_and_at_random_moments_arrays_of_all_shapes_are_exact[streaming]",
        "test_killed_at_every_stage_and_at_random_moments_arrays_of_all_shapes_are_exact",
    ),
    Mutant(
        "a task at work at a safe point is overlooked", "2", "session/tasks.py",
        "        if task is current.own_task() or", "        if task is not None or",
        "tests/unit/test_async_refused.py", "test_task_that_is_at_work_at_a_safe_point_is_refused_after_one_iteration",
    ),
    Mutant(
        "a cancellation does not wait for the record that is being written", "5", "asynchrony.py",
        "            cancelled = error\n", "            raise\n",
        "tests/unit/test_async.py", "test_cancellation_while_the_record_is_written_comes_when_it_is_durable",
    ),
    Mutant(
        "steps side by side move the generators on", "1", "session/coroutines.py",
        "                    write_random_state(state)\n", "                    pass\n",
        "tests/unit/test_async_identity.py", "test_generators_after_steps_that_draw_are_the_same_after_a_resume",
    ),
    Mutant(
        "a position is not durable when the next item is handed out", "3", "session/journal.py",
        "        self._append({**self.batch(), **head}, durable=True)", "        self._append({**self.batch(), **head}, durable=False)",
        "tests/crash/test_logged.py", "test_committed_iterations_are_never_executed_again",
    ),
    Mutant(
        "operations of an iteration that did not end count", "1", "session/history.py",
        "        return found[start - self.first : end - self.first]", "        return found[start - self.first :]",
        _LOGGED, "test_operations_of_iterations_that_did_not_end_do_not_count",
    ),
    Mutant(
        "operations behind the point where an attempt went on stay", "1", "session/history.py",
        "            found[at:] = operations", "            found += operations",
        _LOGGED, "test_operations_of_iterations_that_did_not_end_do_not_count",
    ),
    Mutant(
        "an image may be ahead of a state on the path", "1", "session/journal.py",
        "        if lowest >= self.position and", "        if",
        _LOGGED, "test_objects_are_exact_at_every_state_of_the_path_with_images",
    ),
    Mutant(
        "operations on the way to the resume point are recorded again", "1", "session/journal.py",
        "        if not self._recording:\n            return\n", "",
        _LOGGED, "test_operations_in_front_of_a_loop_are_recorded_once",
    ),
    Mutant(
        "a position is recorded although random numbers were drawn", "1", "session/committing.py",
        "        return bool(node.drew == random_marks())", "        return True",
        _LOGGED, "test_random_numbers_that_an_iteration_drew_come_back",
    ),
    *GOING_ON,
    *CAPTURING,
)  # fmt: skip
