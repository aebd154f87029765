"""Where the run is: loops entered and left, safe points, and the way back to a resume point.

``Track`` owns the path (``node.Node``). While it *replays*, each loop on the recorded path gets its own state back as
the re-run code reaches it, and nothing is captured; after that every safe point may keep a state or take a checkpoint.
The session around it (``Conductor``) decides when, and stores.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from ckpt import events
from ckpt.capture import frames, sites
from ckpt.capture.sites import LoopSite
from ckpt.capture.state import Extras, Held, StateCapture
from ckpt.errors import MemoryFullError, StorageError
from ckpt.format.path import END, OVER, PathNode
from ckpt.session.arrival import Arrival, give, match
from ckpt.session.asources import AdvancedSource
from ckpt.session.conductor import Conductor, Input
from ckpt.session.items import check_base, check_item, check_length, consume
from ckpt.session.node import Node, inputs_to_save
from ckpt.session.refusals import ended_early, left_open, not_reached, refuse_entangled
from ckpt.session.sources import ConsumedSource, Source, can_travel

MAX_CHILDREN = 100
"""Entries below one iteration that the path lists at most; see ``Track._bound``."""


class Track:
    """The live path of one attempt. Used by the job's thread only."""

    def __init__(
        self,
        conductor: Conductor,
        capture: StateCapture,
        attention: list[str],
        *,
        captures_locals: bool,
    ) -> None:
        """Loops look at ``attention``: not empty means that somebody wants something at the next safe point."""
        self._conductor, self._capture = conductor, capture
        self.attention, self.captures_locals = attention, captures_locals
        self._caller: types.FrameType | None = None
        now = conductor.now()
        self.root = Node("", "", 0, 0, 0, "active", True, now, {}, 1, ())
        self.active = [self.root]
        self.replaying = False
        self.inert = self.code_changed = self._warned = False

    # -- frames and states ----------------------------------------------------------------------------------

    def chain(self, frame: types.FrameType | None) -> list[types.FrameType]:
        """The frames whose variables belong to the state at a safe point in ``frame``."""
        if not self.captures_locals:
            return []
        assert self._caller is not None
        return frames.user_frames(frame, self._caller)

    def set_root(self, caller: types.FrameType) -> None:
        """The job's frame will be the one that ``caller`` calls."""
        self._caller = caller

    def extras(self, node: Node, chain: list[types.FrameType]) -> Extras:
        """What the loop at ``node`` adds to its state."""
        extras = Extras(remade=list(self.root.remade()))
        extras.values.update(self._conductor.values_to_save())
        outer = [one for one in self.active[1:] if one is not node]
        extras.values.update(inputs_to_save(outer, node, in_block=not self.captures_locals))
        return extras

    def held(self, node: Node, chain: list[types.FrameType]) -> Held:
        """Per frame, where the objects are that the interpreter itself holds."""
        return [sites.held_by_caller(frame) for frame in chain[:-1]] + [node.held for _ in chain[-1:]]

    # -- entering -------------------------------------------------------------------------------------------

    def enter(self, site: LoopSite, name: str | None, given: Input) -> tuple[Node, Iterator[Any]]:
        """A marked loop begins: its node and the iterator to go on with. A loop that is over yields nothing more."""
        arrival = self.arrive(site, name, given)
        return arrival.node, self.go_on(arrival)

    def arrive(self, site: LoopSite, name: str | None, given: Input) -> Arrival:
        """The first half of ``enter``: what happens before an async input is advanced."""
        frame = frames.user_frame(frames.caller(1))
        parent = self.active[-1]
        saved = self._expected(parent)
        node = self._new_node(site, name, parent, frame)
        where = f"{site.qualname}, line {site.line}"
        give(node, given, where, self._capture, self._conductor.replaying)
        refuse_entangled(node, list(self.root.remade()), self._capture, self.chain(frame), self._conductor, where)
        # The entry that stands for others is reached with the variables of the first: its input has to come with it.
        node.collapsible = node.collapsible and can_travel(node.source)
        if saved is not None:
            match(node, saved, where)
            parent.entries = saved.entry + 1
        return Arrival(node, saved, frame, where)

    def go_on(self, arrival: Arrival) -> Any:
        """The second half of ``enter``: the iterator to go on with."""
        node, frame, parent = arrival.node, arrival.frame, self.active[-1]
        if arrival.saved is not None:
            return self._resume(node, arrival.saved, frame, arrival.where)
        items = node.keyed.remaining(None) if node.keyed is not None else _source(node).start(0, None)
        self.active.append(node)
        if not self.replaying:
            self._bound(parent, node, frame)
            self._conductor.passed(node, frame, "entry")
        return items

    def _new_node(self, site: LoopSite, name: str | None, parent: Node, frame: types.FrameType | None) -> Node:
        identity = f"{site.qualname}:{name}" if name is not None else f"{site.qualname}#{site.ordinal}"
        chain = self.chain(frame)
        outer = chain[parent.depth - 1 : -1]
        node = Node(
            site=identity,
            label=name or site.label,
            line=site.line,
            entry=parent.entries,
            arrives=parent.entries,
            status="active",
            ends_plainly=site.ends_plainly,
            entered_s=self._conductor.now(),
            before=parent.open,
            depth=max(len(chain), 1),
            held=site.held,
            place=tuple((one.f_code, one.f_lasti) for one in outer) if chain else (frame and frame.f_code,),
        )
        parent.open = {}
        parent.entries += 1
        if any(one.site == identity and one.place == node.place for one in parent.children):
            # A block's variables do not come back: its while statements have to run as often as they did.
            node.collapsible = self.captures_locals and site.collapsible and all(
                sites.call_is_direct(caller, callee.f_code.co_name)
                for caller, callee in zip(outer, chain[parent.depth :], strict=True)
            )
        parent.children.append(node)
        return node

    def _bound(self, parent: Node, node: Node, frame: types.FrameType | None) -> None:
        """Keep the path short: under an unmarked ``for`` every entry of an inner loop adds to it."""
        if len(parent.children) <= MAX_CHILDREN:
            return
        if node.collapsible:
            self.rebase_if_possible(node, frame)
        elif not parent.merge_oldest() and not self._warned:
            self._warned = True
            events.say(
                f"line {node.line}: a marked loop was entered {MAX_CHILDREN} times in an unmarked one; "
                "mark the outer loop too (for ... in ckpt.loop(...)), or a resume has to run it again"
            )

    # -- the way back ---------------------------------------------------------------------------------------

    def follow(self, path: list[PathNode]) -> None:
        """Begin to replay: the job is about to be run again from its top."""
        self.root.plan, self.root.plan_index = list(path), 0
        self.replaying = bool(path)
        if self.replaying:
            self.attention.append("replay")
        else:
            self._conductor.replayed()

    def _expected(self, parent: Node) -> PathNode | None:
        """The recorded node that is due to be reached at this entry, if any."""
        if not self.replaying or not parent.plan or parent.index != parent.plan_index:
            return None
        if parent.entries != parent.plan[0].arrives:
            return None
        if parent.plan_item is not None:
            if parent.keyed is not None and parent.item_key.hex() != parent.plan_item[0]:
                self._arrived()  # the item in progress is gone from the input: go on from the state before it
                return None
            if parent.keyed is None:
                check_item(parent.item, parent.plan_item, parent.index, f"line {parent.line}")
        return parent.plan.pop(0)

    def _resume(self, node: Node, saved: PathNode, frame: types.FrameType | None, where: str) -> Any:
        items: Any = iter(())
        if saved.status in OVER:
            self.active.append(node)
            self._consume(node, saved.index if saved.status == "broken" else None)
            self._restore(node, saved, frame)
            self.active.pop()
            node.status, node.index = saved.status, saved.index
        else:
            self.active.append(node)
            items = self._restart(node, saved, frame, where)
            if saved.status == "active" or saved.children:
                node.plan, node.plan_index, node.plan_item = list(saved.children), saved.index, saved.item
        self._check_arrival()
        return items

    def _consume(self, node: Node, count: int | None) -> None:
        """Take what was taken from an iterator that the code has made again for a loop that is over."""
        if isinstance(node.source, AdvancedSource):
            return  # consumed before: that needs ``await``
        if isinstance(node.source, ConsumedSource):
            consume(node.source.start(0, None), count, self._conductor.replaying)
        else:
            consume(node.iterable, count, self._conductor.replaying)

    def _restart(self, node: Node, saved: PathNode, frame: types.FrameType | None, where: str) -> Any:
        """Set the state back and start the input at the base; in which order depends on what is iterated."""
        if node.keyed is not None:
            extras = self._restore(node, saved, frame)
            node.keyed.restore(bytes(extras.get("done", b"")), extras.get("items"))
            first = bytes.fromhex(saved.item[0]) if saved.item is not None else None
            return node.keyed.remaining(first)
        source = _source(node)
        if source.begins == "first":
            started = source.start(saved.base_index, None)
            check_base(source, saved.base_index, saved.base_item, where)
            self._restore(node, saved, frame)
            return started
        # The input that the code made again is looked at before the one that travelled with the state takes its place.
        if saved.arrives == saved.entry:
            check_base(source, saved.base_index, saved.base_item, where)
        extras = self._restore(node, saved, frame)
        return source.start(saved.base_index, extras.get("input"))

    def _restore(self, node: Node, saved: PathNode, frame: types.FrameType | None) -> Any:
        if saved.state is None:
            return {}
        parts = self._conductor.parts_of(saved.state)
        node.base = self._conductor.kept(saved.state)
        chain = self.chain(frame)
        extras = self._capture.restore(chain, parts, unbind=not self.code_changed)
        self._conductor.restored(node, saved, extras)
        above = [one for one in self.active[1:] if one is not node]
        for one, length in zip([*above, node], extras.get("given", ()), strict=False):
            check_length(one.given_length, length, f"line {one.line}")
        for outer, given in zip(above, extras["outer"], strict=True):
            if given is not None:
                # The outer loop goes on with the items that came back, which the variables refer to.
                outer.again = outer.go_on_with(given)
        return extras

    def _check_arrival(self) -> None:
        """The resume point is reached once nothing of the path is left to be reached."""
        for node in self.active:
            if node.plan or (node.plan is not None and node.index < node.plan_index):
                return
        self._arrived()

    def _arrived(self) -> None:
        for node in self.active:
            node.plan, node.counted = None, node.index  # triggers begin to count here
        self.replaying = False
        self._conductor.replayed()

    # -- safe points ----------------------------------------------------------------------------------------

    def iterated(self, node: Node) -> None:
        """The end of an iteration of ``node`` at which somebody wanted attention, or which entered other loops."""
        if self.inert:
            return
        if self.active[-1] is not node:
            raise left_open(self.active[-1], node)
        if self.replaying:
            self._replay_iteration(node)
            return
        frame = frames.user_frame(frames.caller(1))
        self._conductor.count(node)
        self._conductor.passed(node, frame, "iteration")
        if node.children and (node.keyed is not None or any(child.forgot for child in node.children)):
            # Steps of this iteration could not be replayed any more, or its items may come in another order next time:
            # never go back to before its end.
            self.rebase(node, frame)
        node.absorb()
        node.clear_iteration()
        node.iteration_s = self._conductor.now()

    def _replay_iteration(self, node: Node) -> None:
        self._conductor.replaying()
        if node.plan and node.index > node.plan_index:
            raise not_reached(node.plan[0], node)
        node.absorb()
        node.clear_iteration()
        node.iteration_s = self._conductor.now()
        if node.plan is not None:
            self._check_arrival()

    def rebase(self, node: Node, frame: types.FrameType | None) -> None:
        """Keep the state here: ``node`` will never be re-executed from further back."""
        kept = self._conductor.keep(node, frame)
        old = node.rebase(kept, self._conductor.now())
        position = self.active.index(node) if node in self.active else len(self.active)
        self.active[position - 1].prune(node)
        if old is not None:
            self._conductor.discard(old)

    def rebase_if_possible(self, node: Node, frame: types.FrameType | None) -> bool:
        """The same, where going on without is exact too: without memory for the copy the path stays as it was."""
        try:
            self.rebase(node, frame)
        except (MemoryFullError, StorageError) as error:
            self._conductor.short_of_memory(error)
            return False
        return True

    # -- leaving --------------------------------------------------------------------------------------------

    def exhausted(self, node: Node) -> None:
        """The input of ``node`` has come to its end."""
        if self.inert:
            return
        frame = frames.user_frame(frames.caller(1))
        self._leave(node)
        if self.replaying:
            self._left_while_replaying(node)
            return
        node.status = "exhausted"
        self._conductor.passed(node, frame, "exit")
        self._finish(node)

    def closed(self, node: Node, *, raised: bool = False) -> None:
        """``node`` was left by break, return or an exception; ``raised``: by one of its input. It must not raise itself."""
        if self.inert or node not in self.active:
            return
        frame = frames.user_frame(frames.caller(1))
        self._leave(node)
        if self.replaying:
            return
        plainly = not raised and node.ends_plainly and frame is not None and not frames.left_by_exception(frame)
        if plainly:
            node.status = "broken"
            node.index += 1  # the item in progress is consumed
            try:
                self._conductor.passed(node, frame, "closed")
            except Exception as error:  # noqa: BLE001 - raised here it would be printed and lost: raise it at the next safe point
                self._conductor.postpone(error)
        self._finish(node)

    def _leave(self, node: Node) -> None:
        while self.active[-1] is not node:
            self.active.pop().status = "live"
        self.active.pop()
        node.plan = None
        if not self.replaying:
            self._conductor.count(node)
        if node.progress is not None:
            node.progress.stop()

    def _left_while_replaying(self, node: Node) -> None:
        node.status = "live"
        node.rerun_s = node.rerun_s or self._conductor.now() - node.base_s

    def _finish(self, node: Node) -> None:
        """A loop whose end was not kept is run again from its base, with its recorded results."""
        if node.status in OVER and node.base is not None and node.at_base:
            return
        # Its last, unfinished iteration stays on the path: an inner loop may have a base of its own there.
        node.status = "live"
        node.rerun_s = self._conductor.now() - node.base_s

    def mark(self, site: LoopSite) -> Node:
        """``run.checkpoint()``: a point of its own on the path."""
        frame = frames.user_frame(frames.caller(1))
        parent = self.active[-1]
        saved = self._expected(parent)
        node = self._new_node(site, None, parent, frame)
        node.kind = "checkpoint"
        if saved is not None:
            match(node, saved, f"line {site.line}")
            parent.entries = saved.entry + 1
            self._resume(node, saved, frame, f"line {site.line}")
        elif not self.replaying:
            try:
                self.rebase(node, frame)
            except BaseException:
                parent.children.remove(node)  # whoever catches it goes on as if it had not been asked for
                raise
        node.status = "exhausted"
        return node

    def mark_end(self) -> None:
        """The end of a ``with ckpt.open`` block, where its last state is kept."""
        end = Node(END, END, 0, self.root.entries, self.root.entries, "exhausted", True, 0.0, self.root.open, 1, ())
        end.kind = END
        self.root.open = {}
        self.root.children.append(end)
        self.rebase(end, None)

    def check_finished(self) -> None:
        """The job returned: it must have passed its resume point."""
        if self.replaying:
            raise ended_early(next((n.plan[0] for n in self.active if n.plan), None))


def _source(node: Node) -> Source:
    assert node.source is not None
    return node.source
