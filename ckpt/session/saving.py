"""How a checkpoint of this attempt becomes durable, when the next one is due, and what they cost so far.

Owns the background threads: the checkpointer, which writes, and the ticker, which reminds.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ckpt import events, host
from ckpt.capture.state import Captured
from ckpt.checkpointer import Checkpointer, Kept, Request, memory_checked
from ckpt.errors import CkptError, LogLostError, StorageError
from ckpt.format.path import path_text, path_to_json
from ckpt.format.records import Kind
from ckpt.history import KEPT
from ckpt.recovery import needed_from
from ckpt.session.journal import WANTED, Journal
from ckpt.session.node import Node, freeze
from ckpt.session.pacing import Pacing, interval_of
from ckpt.session.services import Services
from ckpt.session.steps import Recorded, encode_results
from ckpt.session.ticker import Chore, Ticker
from ckpt.session.turns import turns
from ckpt.triggers import Paid, excess_of, taken_from_job, tell_resumed, tell_taken

RETRY_S = 1.0
"""Shortest pause after a checkpoint that the storage refused."""

BUSY_S = 0.02
"""How soon a checkpoint that is due looks again for the end of the one in flight."""

RENEW_S = 5.0
"""How often the lease says that this process lives."""

STARVED_S = 60.0
"""A resume that has to run this much again for want of a marked outer loop is worth a word."""


@dataclass(slots=True)
class Totals:
    """What checkpoints of this attempt cost so far: number, seconds the job stood still (also for states that came into none),
    seconds of work beside it."""

    checkpoints: int = 0
    stall_s: float = 0.0
    beside_s: float = 0.0

    def head(self) -> dict[str, Any]:
        """For the head of a STATUS record."""
        return {
            "checkpoints": self.checkpoints,
            "stall_s": round(self.stall_s, 6),
            "cost_s": round(self.stall_s + self.beside_s, 6),
        }


class Saving:
    """Makes checkpoints of one run durable. ``entry`` is the kept state at the job's entry, part of each of them."""

    def __init__(
        self,
        services: Services,
        pacing: Pacing,
        recorded: Recorded,
        attention: list[str],
        *,
        postpone: Callable[[Exception], None],
        beat: Callable[[Request], None],
    ) -> None:
        """``postpone(error)`` is told what must end the attempt, ``beat(request)`` that a checkpoint is durable; both in
        the background."""
        self._services, self._pacing, self._recorded, self._attention = services, pacing, recorded, attention
        self._postpone, self._beat = postpone, beat
        self._number = services.last_number
        self._starved = self._flush_failed = self._put_off = self._exceeded = False
        self._retry_at_s = -math.inf
        self.totals = Totals()
        self.entry: Kept | None = None
        self.journal: Journal | None = None
        resume = services.resume
        states = [services.resumed_state(number) for number in range(len(resume.refs))] if resume is not None else []
        self.newest: tuple[int, list[Kept]] = int(resume.head["number"]) if resume is not None else 0, states
        """Number and states of the newest durable checkpoint: always of the same one."""
        self.keeps_one = services.options.keep == 1
        self._checkpointer = Checkpointer(
            services.log, services.snapshots, services.clock, self._committed, self._failed
        )
        self._ticker = Ticker(attention, services.clock, self._chores(), postpone)
        self._turns = contextlib.ExitStack()
        self._turns.enter_context(turns())

    def _chores(self) -> list[Chore]:
        chores = [Chore(RENEW_S, self._renew_lease)]
        if self._services.options.sync_interval_s:
            chores.append(Chore(self._services.options.sync_interval_s, self._flush_operations))
            # Operations of logged objects are recorded at a safe point: twice as often, for that comes a little later.
            chores.append(Chore(self._services.options.sync_interval_s / 2, lambda: self._attention.append(WANTED)))
        if self._services.pulse is not None:
            chores.append(self.pulse_chore(self._services.pulse_every_s))
        return chores

    def pulse_chore(self, every_s: float) -> Chore:
        """A chore that asks the next safe point for a sign of life."""
        return Chore(every_s, lambda: self._attention.append("pulse"))

    def add_chore(self, chore: Chore) -> None:
        self._ticker.add(chore)

    # -- called by the job's thread -------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        return self._checkpointer.busy

    def wait_idle(self) -> None:
        self._checkpointer.wait_idle()

    def stage(self, captured: Captured) -> Kept:
        """Copy a state; on return nothing of the job's memory is referred to.

        One that is too large for the memory limit is stored here and now instead. StorageError.
        """
        stager = self._services.stager
        if not stager.fits(captured.skeleton, captured.buffers):
            self.wait_idle()  # what is in flight may take the room that is missing
            if not stager.fits(captured.skeleton, captured.buffers):
                return self._store_live(captured)
        with memory_checked():
            staged = self._services.stager.stage(captured.skeleton, captured.buffers)
        captured.buffers.clear()
        return Kept(staged, None, staged.nbytes)

    def _store_live(self, captured: Captured) -> Kept:
        state = self._services.stager.live(captured.skeleton, captured.buffers)
        try:
            with memory_checked():
                ref = self._services.snapshots.write(state)
        finally:
            state.release()
            captured.buffers.clear()
        return Kept(None, ref, ref.nbytes)

    def submit(self, reason: str, root: Node, began_s: float) -> Request:
        """Hand the path below ``root``, with the states that it names, to the checkpointer."""
        assert self.entry is not None
        assert self.journal is not None
        handed_s = self._services.clock.monotonic()
        self.journal.spill()
        # The log's position is read before the results are: a result recorded in between is in both, never in none.
        covers = self._services.log.position
        maps_since = min(self._recorded.first_needed(root) - 1, covers)
        states = [self.entry]
        path = freeze(root.children, states)
        logged = self.journal.checkpointed(path, states)
        with memory_checked():
            index, *recorded = encode_results(self._recorded.snapshot(root))
            results = self._services.stager.stage(index, recorded)
        self._number += 1
        now = self._services.clock.monotonic()
        head = {
            **self._services.checkpoint_head(),
            "number": self._number,
            KEPT: self._services.retention.numbers_with(self._number),
            "covers": covers,
            **({"maps_since": int(maps_since)} if maps_since < covers else {}),
            "when": self._services.clock.now(),
            "reason": reason,
            "path": path_to_json(path),
            "where": path_text(path),
            "stall_s": round(now - began_s, 6),
            "interval_s": round(now - self._pacing.last_s, 3),
            **({} if (wait_s := interval_of(self._services.trigger)) is None else {"wait_s": round(wait_s, 3)}),
            "ran_s": round(now - self._pacing.began_s, 3),
            "nbytes": sum(state.nbytes for state in states),
            **logged,
            **self._services.parts_head(states),
        }
        self._pacing.last_s = now
        self.totals.stall_s += now - handed_s  # what was read for it has been counted
        self._services.trigger.taken(self._pacing.iterations, began_s)
        kept = Kept(results, None, results.nbytes)
        prepare = self._services.outputs.make_durable
        request = Request(head, states, kept, now - began_s, self._pacing.iterations, prepare)
        self._checkpointer.submit(request)
        return request

    def submit_and_wait(self, reason: str, root: Node, began_s: float) -> None:
        """The same; durable on return. Raises what kept it from being so."""
        request = self.submit(reason, root, began_s)
        request.done.wait()
        if request.error is not None:
            raise request.error

    def record_result(self, kept: Kept, head: dict[str, Any]) -> None:
        """The run is over with this result: durable on return. StorageError."""
        ref = kept.ref
        if ref is None:
            assert kept.staged is not None
            ref = self._services.snapshots.write(kept.staged)
            kept.staged.release()
        whole = {**self._services.status_head("finished"), "result_bytes": kept.nbytes, **head}
        whole |= self._services.outputs.listed()
        # Commit point of the run: from here on it returns its recorded result.
        lsn = self._services.log.append(Kind.STATUS, whole, [ref.encode()], durable=True)
        self._services.finished(lsn, ref.packs)
        self._services.outputs.release()

    def go_without_result(self, error: CkptError, cost: dict[str, Any]) -> None:
        """The job is over, and for ``error`` its result cannot be recorded: say so, here and in the log."""
        services = self._services
        events.say(f"{services.names.address}: the result cannot be recorded, a later call runs the end again: {error}")
        text = services.redact(f"the result cannot be recorded: {error.what}")[:500]
        try:
            services.log.append(Kind.STATUS, {**services.status_head("failed", text), **cost}, durable=True)
        except StorageError as trouble:
            events.say(f"could not record how the attempt ended: {trouble}")

    def is_wanted(self, active: list[Node], node: Node, now_s: float) -> bool:
        """Whether a checkpoint is to be taken at ``node``. Waits for the one in flight only if another was asked for."""
        if self._pacing.insists():
            self.wait_idle()
            return True
        counted = self._pacing.counted_out()
        if not counted and not self._pacing.due:
            return False
        if self.busy:
            self.look_again_soon()
            return False
        if now_s < self._retry_at_s:
            self._ticker.due_at(self._retry_at_s)
            return False
        later_s = 0.0 if counted else self._pacing.allows(active, node, now_s)
        if later_s:
            # Too much would have to be run again from here: an outer safe point, or a later one, is the better place.
            self.look_again(later_s, node.line)
        return not later_s

    def arrived(self) -> None:
        """The run begins, or its state is there again: then nothing is at risk, and it need not begin with a checkpoint."""
        resume = self._services.resume
        if resume is not None:
            cost_s, paid = resume.head.get("cost_s"), None
            if resume.path and isinstance(cost_s, float):  # the one at the entry says nothing of those in loops
                paid = Paid(cost_s, taken_from_job(float(resume.head["stall_s"]), cost_s, host.processors()))
            tell_resumed(self._services.trigger, self._pacing.iterations, self._services.clock.monotonic(), paid)
        self.schedule()

    def schedule(self) -> None:
        """Have the ticker wait for the trigger."""
        now = self._services.clock.monotonic()
        self._ticker.due_at(now + self._services.trigger.due_in(self._pacing.iterations, now))

    def look_again(self, after_s: float, line: int) -> None:
        """A checkpoint that was due was not a good one at the loop in ``line``: so much would have to be run again."""
        if after_s > STARVED_S and not self._starved:
            self._starved = True
            events.say(
                f"line {line}: no good place for a checkpoint: a resume would have to run the last "
                f"{events.span_text(after_s)} again; mark the loop around it too (for ... in ckpt.loop(...))"
            )
        self._ticker.due_at(self._services.clock.monotonic() + after_s)

    def look_again_soon(self) -> None:
        """A checkpoint was due while the one before it was still in flight: a reminder that is used up comes once more."""
        self._ticker.due_at(self._services.clock.monotonic() + BUSY_S)

    def put_off(self, error: CkptError) -> None:
        """A state could not be copied or stored: earlier checkpoints stay good, and the next one is tried a little later."""
        if not self._put_off:
            self._put_off = True
            events.say(f"a checkpoint could not be taken, the job goes on: {error.while_going_on()}")
        self._retry_at_s = self._services.clock.monotonic() + RETRY_S
        self._ticker.due_at(self._retry_at_s)

    def close(self) -> None:
        """End the threads; what is in flight is finished first."""
        with self._turns:
            self._ticker.close()
            self._checkpointer.close()
            self._services.stager.close()

    # -- called in the background ---------------------------------------------------------------------------

    def _committed(self, request: Request, lsn: int, packs: frozenset[str], cost_s: float) -> None:
        self._services.note_saved(request.head)
        self.newest = request.head["number"], list(request.states)
        self.totals.checkpoints += 1
        self.totals.beside_s += cost_s - request.stall_s
        if request.head["path"]:  # the one at the entry, which nothing triggers, says nothing of those in loops
            tell_taken(self._services.trigger, taken_from_job(request.stall_s, cost_s, host.processors()))
            self._services.trigger.committed(request.iterations, self._services.clock.monotonic(), cost_s)
            self._say_if_exceeded()
        self.schedule()
        self._beat(request)
        if self._put_off:
            self._put_off = False
            events.say(f"checkpoint {request.head['number']} is stored again")
        events.emit("checkpoint", address=self._services.names.address, lsn=lsn, **request.head)
        try:
            self._services.retention.committed(lsn, needed_from(request.head), packs, request.head["number"])
            self._recorded.checkpointed()
        except StorageError as error:
            events.say(f"old checkpoints could not be removed, the job goes on: {error.while_going_on()}")

    def _say_if_exceeded(self) -> None:
        excess = excess_of(self._services.trigger)
        if excess is None or self._exceeded:
            return
        self._exceeded = True
        within_s = math.ceil(excess.cost_s / excess.fraction)
        events.say(
            f"{self._services.names.address}: a checkpoint costs {events.span_text(excess.cost_s)} here; so that at most "
            f"{events.span_text(excess.at_most_s)} of work are at risk, they take {excess.share:.1%} of the time, not "
            f"{excess.fraction:.1%} (to risk more instead: every=ckpt.triggers.Budget({excess.fraction:g}, at_most_s={within_s}))"
        )

    def _failed(self, error: CkptError) -> None:
        if isinstance(error, StorageError) and not isinstance(error, LogLostError):
            self._retry_at_s = self._services.clock.monotonic() + RETRY_S
            self._ticker.due_at(self._retry_at_s)
        else:
            self._postpone(error)

    def _flush_operations(self) -> None:
        try:
            self._services.log.flush()
            self._flush_failed = False
        except LogLostError as error:
            self._postpone(error)
        except StorageError as error:
            if not self._flush_failed:
                self._flush_failed = True
                events.say(f"recorded operations could not be made durable yet, trying again: {error.while_going_on()}")
        except CkptError as error:
            self._postpone(error)

    def _renew_lease(self) -> None:
        address = self._services.names.address
        try:
            if not self._services.lease.renew():
                events.say(f"{address}: another attempt may be taking over; the log decides at the next checkpoint")
        except StorageError as error:
            events.emit("lease", address=address, error=str(error))  # correctness never depends on the lease
