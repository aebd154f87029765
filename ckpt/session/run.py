"""One attempt of one run, from the inside: when to keep a state, when to take a checkpoint, and what a user can ask.

``Run`` conducts the track (where the run is), the capture (what its state is) and the checkpointer (how it becomes
durable). It never blocks the job except to copy the state, and where the caller asked for durability.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

from ckpt import events
from ckpt.asynchrony import running_loop
from ckpt.capture import frames, sites
from ckpt.capture.graph import Graph
from ckpt.capture.randomness import write_random_state
from ckpt.capture.state import StateCapture
from ckpt.capture.visible import Visible
from ckpt.checkpointer import Kept, memory_checked
from ckpt.errors import CkptError, MemoryFullError, StorageError
from ckpt.format.path import END, PathNode, without_loops
from ckpt.format.records import Kind, lsn_text
from ckpt.outputs import Output, Settings
from ckpt.session import current
from ckpt.session.committing import Committing
from ckpt.session.journal import WANTED, Journal
from ckpt.session.loops import MarkedLoop
from ckpt.session.mapping import Maps
from ckpt.session.namespace import Namespace, Namespaces
from ckpt.session.node import Node
from ckpt.session.objects import Objects, reduction_of
from ckpt.session.operations import Operations
from ckpt.session.outputs import reducer_of
from ckpt.session.pacing import Pacing
from ckpt.session.pulse import reached
from ckpt.session.refusals import refuse_elsewhere, refuse_tasks, unrecordable
from ckpt.session.saving import Saving
from ckpt.session.services import Services
from ckpt.session.signs import Signs
from ckpt.session.steps import Recorded
from ckpt.session.stopping import Stopping
from ckpt.session.track import Track


class Run:
    """A run that is going on. ``ckpt.open`` gives one; ``ckpt.current_run()`` finds it inside a job."""

    def __init__(self, services: Services, *, captures_locals: bool) -> None:
        self._services = services
        self.attention: list[str] = []
        self._visible = Visible()
        self._capture = StateCapture(
            Graph(self._visible, self._special), self._visible, services.options.recreate, services.remade_types
        )
        self.track = Track(self, self._capture, self.attention, captures_locals=captures_locals)
        self._captures_locals, self._alive, self.finished = captures_locals, True, services.over
        self._namespaces = Namespaces()
        self._journal = Journal(services, self, self.attention, eager=not captures_locals and not services.options.sync_interval_s)
        self.dict, self.list, self.counter, self.logged = Objects(self._journal).doors
        self._recorded = Recorded(services.recovered_results())
        self.operations = Operations(services, self.track, self._recorded)
        self.maps = Maps(self, services, self.track, self._recorded)
        self.stopping = Stopping(self.attention)
        self._started_s = services.clock.monotonic()
        self._pacing = Pacing(services.trigger, first=services.resume is None, now_s=self._started_s)
        self.outputs, self.key_address = services.outputs, services.key_address
        self._saving = Saving(
            services, self._pacing, self._recorded, self.attention, postpone=self.postpone,
            beat=lambda request: self._signs.checkpointed(request),
        )  # fmt: skip
        self._saving.journal = self._journal
        self._signs = Signs(services, self.track, self.operations, self._saving)
        sync_s = services.options.sync_interval_s
        self._committing = Committing(
            self._journal, self.track, self._saving, captures_locals=captures_locals, sync_s=sync_s
        )

    # -- what a user may ask --------------------------------------------------------------------------------
    @property
    def id(self) -> str:
        """The run's id."""
        return self._services.names.run_id

    @property
    def address(self) -> str:
        """``job/run_id``."""
        return self._services.names.address

    @property
    def attempt(self) -> int:
        """The number of this attempt: 1 for the first."""
        return self._services.log.epoch

    @property
    def resumed(self) -> bool:
        """Whether this attempt goes on from a checkpoint of an earlier one."""
        return self._services.resume is not None

    @property
    def log_position(self) -> str:
        """How far the log is durable, like "42.7": what a later attempt may be told to ``expect_at_least``."""
        return lsn_text(self._services.log.acknowledged)

    def state(self, **initial: Any) -> Namespace:
        """A namespace with these values, which are part of every later checkpoint, or with the restored ones.

        They come back when the block gets to the marked loop in which the run goes on; in a block that only calls
        ``checkpoint()`` they are back at once, and the block goes on by what they say. Objects with ``state_dict`` and
        ``load_state_dict`` are restored in place.
        """
        made = Namespace(**initial)
        if self._captures_locals:
            self._visible.add(made, "state")
            return made
        self._committing.also_other_state()
        resume, saved = self._services.resume, []
        if resume is not None and without_loops(resume.path):
            saved = self._services.resumed_values(self._capture.load_plain).get("namespaces", [])
        self._namespaces.add(made, saved)
        return made

    def open_output(self, path: str | os.PathLike[str], settings: Settings) -> Output:
        """An output file of this run (see ``ckpt.output``)."""
        self._committing.also_other_state()  # its length is known at checkpoints only
        return self.outputs.open(path, settings)

    def loop(self, iterable: Any, name: str | None = None, key: Any = None, progress: bool | None = None) -> Any:
        """A marked loop of this run (see ``ckpt.loop``)."""
        if not self._alive or current.run_of_thread() is not self:
            return iterable  # in another thread, inside a step, in a child: plain, as ckpt.loop is there
        frame = frames.user_frame(frames.caller(1))
        assert frame is not None
        return MarkedLoop(self, iterable, sites.site_at(frame), name, key, progress)

    def step(self, function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        """``function`` as a recorded step of this run; also a decorator with options (those of ``ckpt.step``)."""
        if function is None:
            return lambda decorated: self.step(decorated, **options)
        return self.operations.recorded_step(self, function, options)

    def checkpoint(self) -> None:
        """Take a checkpoint here and now; durable on return. StorageError if it could not be stored."""
        frame = frames.user_frame(frames.caller(1))
        refuse_elsewhere(self)
        assert frame is not None
        if self.finished and not self.track.replaying:
            return
        self._saving.wait_idle()
        was_replaying = self.track.replaying
        began = self.now()
        self.track.mark(sites.site_at(frame))
        if was_replaying:
            return
        self._saving.submit_and_wait("requested", self.track.root, began)
        self.stopping.raise_failure()
        if self.stopping.asked:
            self.stopping.end()

    def request_checkpoint(self) -> None:
        """Take a checkpoint at the next safe point. Returns at once; may be called from any thread."""
        self._pacing.ask()
        self.attention.append("requested")

    # -- the conductor of the track -------------------------------------------------------------------------

    def now(self) -> float:
        return self._services.clock.monotonic()

    def keep(self, node: Node, frame: types.FrameType | None) -> Kept:
        """Read and stage the state at ``node``. The job stands still for this and nothing else."""
        began = self.now()
        chain = self.track.chain(frame)
        refuse_tasks(self, chain, self._services.options.recreate)
        with memory_checked():
            captured = self._capture.capture(chain, self.track.extras(node, chain), self.track.held(node, chain))
        kept = self._saving.stage(captured)
        self._services.note_captured(captured, kept, self._namespaces.sizes())
        node.logged = self._journal.reached
        node.drew = self._committing.marks()
        cost = self.now() - began
        self._pacing.kept(cost)
        self._saving.totals.stall_s += cost
        return kept

    def discard(self, kept: Kept) -> None:
        # Only while nothing is in flight, and asked first: until then the checkpointer may read it, or let go of it itself.
        if not self._saving.busy and kept.staged is not None:
            kept.staged.release()
            kept.staged = None

    def kept(self, state: int) -> Kept:
        return self._services.resumed_state(state)

    def parts_of(self, state: int) -> list[Any]:
        return self._services.resumed_parts(state)

    def postpone(self, error: Exception) -> None:
        self.stopping.postpone(error)

    def values_to_save(self) -> dict[str, Any]:
        return {"namespaces": self._namespaces.save(), **self.outputs.saved()}

    def restored(self, node: Node, saved: PathNode, extras: Mapping[str, Any]) -> None:
        self._namespaces.restore(extras["namespaces"])
        self.outputs.restore(extras.get("outputs"))
        self._journal.restore(saved.logged)
        node.logged, node.drew = saved.logged, self._committing.marks()

    def replayed(self) -> None:
        if "replay" in self.attention:
            self.attention.remove("replay")
        if self._services.resume is not None:
            self._services.say_resumed()
        self.outputs.arrived()
        self._journal.arrived()
        self._pacing.last_s = self.now()
        self._saving.arrived()

    def passed(self, node: Node, frame: types.FrameType | None, kind: str) -> None:
        """Every safe point that is not passed in the fast lane comes by here."""
        pulse = self._drain()
        if kind != "closed":
            self.stopping.raise_failure()
            if self.stopping.asked:
                self._preempt(node, frame)
        now = self.now()
        if pulse:
            self._signs.pulse()
        if kind == "iteration" and node.index == 1:
            refuse_tasks(self, self.track.chain(frame), self._services.options.recreate)
        if kind != "closed" and self._committing.is_due(node) and self._committing.commit(node, frame, now):
            self._pacing.taken()
        if self._saving.is_wanted(self.track.active, node, now):
            self._take(node, frame, now)
        elif not self._captures_locals and kind in ("exit", "closed") and len(self.track.active) == 1:
            self.track.rebase(node, frame)  # a block is entered again when it is over: its loops must not be
        elif kind != "entry" and (node.children or kind != "iteration") and self._pacing.worth_keeping(now - node.base_s):
            self.track.rebase_if_possible(node, frame)

    def _take(self, node: Node, frame: types.FrameType | None, began_s: float) -> None:
        if self._pacing.is_first:  # what cannot be saved at all is an error now, and not in the third hour
            self.track.rebase(node, frame)
        elif not self._committing.move(node, began_s) and not self.track.rebase_if_possible(node, frame):
            return
        try:
            self._saving.submit(self._pacing.taken(), self.track.root, began_s)
        except MemoryFullError as error:
            self.short_of_memory(error)

    def short_of_memory(self, error: CkptError) -> None:
        self._saving.put_off(error)

    def _drain(self) -> bool:
        """Take what has been put into ``attention``; True if a sign of life is due."""
        pulse = False
        while self.attention:
            reason = self.attention.pop()
            if reason == "due":
                self._pacing.due = True
            elif reason == "pulse":
                pulse = True
            elif reason == WANTED:
                self._committing.note_asked()
        return pulse

    def count(self, node: Node) -> None:
        self._pacing.count(node)

    def stop_at(self, node: Node) -> int:
        """The index at which the loop at ``node`` has to come by, although nobody wants attention."""
        # In a job with tasks, the first iteration shows whether it leaves some behind.
        early = node.index == 0 and self._captures_locals and running_loop() is not None
        return 1 if early else self._pacing.stop_at(node.index)

    # -- stopping -------------------------------------------------------------------------------------------

    def stop(self, signal_name: str) -> None:
        """Called from a signal handler: stop at the next safe point."""
        self.stopping.ask(signal_name)

    def _preempt(self, node: Node, frame: types.FrameType | None) -> None:
        self._saving.wait_idle()
        began = self.now()
        try:
            self.track.rebase(node, frame)
            self._saving.submit_and_wait("signal", self.track.root, began)
        except StorageError as error:
            events.say(f"the last checkpoint could not be stored; an earlier one, if it is there, stays good: {error}")
        self.stopping.end()

    def asked_to_stop(self) -> bool:
        """Whether the run is to stop; asked by what goes on between safe points. Gives a sign of life if one is due."""
        if "pulse" in self.attention:
            self.attention.remove("pulse")
            self._signs.pulse()
        return self.stopping.asked

    def replaying(self) -> None:
        if self.asked_to_stop() and self.track.replaying:
            self.stopping.end()

    # -- life -----------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the job's function. Its frame is the one right above this one: that is how the track finds it."""
        self.track.set_root(sys._getframe())
        return function(*args, **kwargs)

    def begin(self) -> None:
        """The job is about to be entered (again): set the generators, and know where to go."""
        resume, path = self._services.resume, list[PathNode]()
        if resume is not None:
            self._saving.entry = self._services.resumed_state(0)
            state = self._capture.load_plain(self._services.resumed_parts(0))
            write_random_state(state["random"])
            loops = resume.path
            if not self._captures_locals and without_loops(resume.path):
                loops = []
                self.outputs.restore(self._services.resumed_values(self._capture.load_plain).get("outputs"))
                self._journal.restore_when_asked(resume.path[-1].logged)
            path = [node for node in loops if node.kind != END]
        else:
            self._saving.entry = self._saving.stage(self._capture.capture_entry())
            # The entry is the first safe point: what the generators were is known from here on.
            self._saving.submit_and_wait("first", self.track.root, self.now())
        self.track.follow(path)
        events.emit("entered", address=self.address, attempt=self.attempt)

    def find_object(self, kind: Any, name: str) -> Any:
        """The logged object that a restored variable refers to."""
        return self._journal.find(kind, name)

    def add_visible(self, name: str, value: Any) -> None:
        """``value`` came in from outside: it is restored in place."""
        self._visible.add(value, name)

    def finish(self, result: Any) -> None:
        """The job returned: record its result; durable on return."""
        self.track.check_finished()
        self._saving.wait_idle()
        self.stopping.raise_failure()
        self.outputs.complete()
        try:
            kept = self._saving.stage(self._capture.capture_result(result))
        except Exception as error:  # noqa: BLE001 - whatever a result's class raises: the caller still gets the result
            self._saving.go_without_result(unrecordable(error, result, self._capture.capture_result), self.cost_head())
            return
        try:
            self._saving.record_result(kept, {"result_type": type(result).__qualname__, **self.cost_head()})
        except StorageError as error:
            # The caller has waited for hours: the result is theirs, recorded or not.
            events.say(f"{self.address}: the result could not be recorded, a later call runs the end again: {error}")

    def finish_block(self) -> None:
        """The ``with`` block ended: its last state is the result."""
        if not self.finished:
            self.track.check_finished()
        self._saving.wait_idle()
        self.stopping.raise_failure()
        if not self.finished:
            self.outputs.complete()  # before the last checkpoint: with it the block is over
            self.track.mark_end()
            self._saving.submit_and_wait("final", self.track.root, self.now())
        self._services.log.append(Kind.STATUS, {**self._services.status_head("finished"), **self.cost_head()})
        self.outputs.release()

    def cost_head(self) -> dict[str, Any]:
        """What the attempt took and its checkpoints cost, for the head of a STATUS record."""
        return {"seconds": round(self.now() - self._started_s, 3), **self._saving.totals.head()}

    def close(self, *, stopped: bool = False) -> None:
        """End the background threads; what is in flight is finished first, of maps only where the run was ``stopped``."""
        self.maps.close(stopped=stopped)
        self._signs.beat(reached(self.track.root))
        self._journal.closed()
        self._alive = False
        self.operations.close()
        self._saving.close()
        self.outputs.close()

    def disown(self) -> None:
        """This process is a fork of the one that runs the job."""
        self._alive, self.track.inert = False, True
        self.attention.clear()

    @property
    def alive(self) -> bool:
        return self._alive

    def show(self, node: Node, progress: bool | None) -> None:
        """Show a progress bar for the loop at ``node`` if that was asked for."""
        self._signs.show(node, progress)

    def _special(self, kind: type) -> Any:
        """How objects of ckpt itself go into a state."""
        return (lambda run: (current.run_of_process, ())) if kind is Run else reducer_of(kind) or reduction_of(kind)
