"""The path while the job runs: the marked loops entered in the current iteration of their enclosing loop.

A tree whose innermost active chain is where the run is. Each node knows its *base*: the last point of this loop whose
state is kept (None: its entry, which the code before it leads to). From its base a node can always be re-executed, with
recorded step results; where its state was kept at its end, not even that is needed. See docs/architecture.md, "The path".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ckpt.capture.held import Path
from ckpt.checkpointer import Kept
from ckpt.format.path import PathNode
from ckpt.protocols import Clock
from ckpt.session.asources import AdvancedSource
from ckpt.session.callee import Calls
from ckpt.session.items import Mark, base_mark
from ckpt.session.keyed import KeyedItems
from ckpt.session.sources import ConsumedSource, Source

Results = dict[bytes, bytes]
"""Operation identity -> its encoded result."""

NO_ITEM: Any = object()


@dataclass(slots=True, eq=False)
class Node:
    """One entry of a marked loop, or one ``run.checkpoint()`` call (``status`` "exhausted" at once).

    ``index`` items are finished; ``item`` is the last one handed out. ``before`` holds results recorded in the parent
    between the previous loop and this one, ``open`` those recorded since the last inner loop, ``results`` those of
    earlier iterations since the base, ``fetched`` those of the input itself, which is consumed again on every resume.
    ``forgot``: results of steps in this loop were let go of, so that it cannot be
    executed again from its entry. ``logged`` operations of logged objects came before the base, where the random generators
    were at ``drew`` (known only where a position alone can be recorded, see ``committing``). ``place`` is the chain of call positions that leads here from the parent.
    """

    site: str
    label: str
    line: int
    entry: int
    arrives: int
    status: str
    ends_plainly: bool
    entered_s: float
    before: Results
    depth: int
    place: tuple[Any, ...]
    held: tuple[Path, ...] = ()
    source: Source | None = None
    given_length: int | None = None
    keyed: KeyedItems | None = None
    index: int = 0
    counted: int = 0
    item: Any = NO_ITEM
    item_key: bytes = b""
    base: Kept | None = None
    base_index: int = 0
    base_mark: Mark | None = None
    base_s: float = 0.0
    iteration_s: float = 0.0
    rerun_s: float = 0.0
    entries: int = 0
    collapsible: bool = False
    kind: str = "loop"
    forgot: bool = False
    merged_s: float = 0.0
    progress: Any = None
    logged: int | None = None
    drew: Any = None

    children: list[Node] = field(default_factory=list)
    results: Results = field(default_factory=dict)
    open: Results = field(default_factory=dict)
    fetched: Results = field(default_factory=dict)
    plan: list[PathNode] | None = None
    plan_index: int = -1
    plan_item: Mark | None = None
    again: Any = None
    occurrences: dict[tuple[str, bytes], Calls] = field(default_factory=dict)
    gap: tuple[int, int] = (-1, -1)

    def __post_init__(self) -> None:
        self.base_s = self.iteration_s = self.entered_s

    def __hash__(self) -> int:
        return id(self)

    def clear_iteration(self) -> None:
        """A new iteration begins: no loop has been entered in it."""
        self.children.clear()
        self.entries = 0
        self.merged_s = 0.0

    def absorb(self) -> None:
        """Keep the results of this iteration for re-execution from the base."""
        for child in self.children:
            self.results.update(child.before)
            child.absorb()
            self.results.update(child.results)
            self.results.update(child.fetched)
        if self.open:
            self.results.update(self.open)
            self.open = {}

    def rebase(self, kept: Kept, now_s: float) -> Kept | None:
        """The state here is kept: re-execution never goes further back. Returns the kept state that it replaces."""
        old, self.base = self.base, kept
        self.base_index = self.index
        self.base_mark = base_mark(self.source, self.index, self.item)
        self.base_s, self.rerun_s = now_s, 0.0
        self.forgot = self.forgot or self._holds_results()
        self.results, self.open = {}, {}
        self.clear_iteration()
        return old

    def _holds_results(self) -> bool:
        if self.results or self.open or self.fetched or any(child.forgot or child.before for child in self.children):
            return True
        return any(child._holds_results() for child in self.children)

    def stand_in_position(self, child: Node | None) -> int | None:
        """From where on ``child`` will stand for all entries of its loop, once its state is kept; None: nowhere."""
        if child is None or not child.collapsible:
            return None
        same = (n for n, one in enumerate(self.children) if one.site == child.site and one.place == child.place)
        return next(same, None)

    def prune(self, child: Node) -> None:
        """``child``, whose base was just kept, stands for all entries of its loop since the first at the same place."""
        if not child.collapsible:
            return
        for position, earlier in enumerate(self.children):
            if earlier is child:
                return
            if earlier.site == child.site and earlier.place == child.place:
                dropped = self.children[position : self.children.index(child)]
                child.forgot = child.forgot or any(one.forgot or one._holds_results() for one in dropped)
                child.forgot = child.forgot or any(one.before for one in [*dropped[1:], child])
                child.arrives, child.before = earlier.arrives, earlier.before
                del self.children[position : position + len(dropped)]
                return

    def merge_oldest(self) -> bool:
        """Forget the oldest finished loop that is simply run again on a resume; False if there is none."""
        for position, child in enumerate(self.children):
            if child.status == "live" and child.base is None:
                child.absorb()
                self.results.update(child.before)
                self.results.update(child.results)
                self.results.update(child.fetched)
                self.merged_s += child.rerun_s
                del self.children[position]
                return True
        return False

    def all_results(self) -> Iterator[Results]:
        yield self.before
        yield self.results
        yield self.open
        yield self.fetched
        for child in self.children:
            yield from child.all_results()

    def remade(self) -> Iterator[Any]:
        """Iterables of this node and those below it that only the code makes again."""
        if self.source is not None and self.source.remade:
            yield self.source.iterable
        elif self.keyed is not None and self.keyed.remade:
            yield self.keyed.iterable
        for child in self.children:
            yield from child.remade()

    @property
    def fetching(self) -> int | None:
        """The number of the item that the input is being asked for just now."""
        source = self.source
        return source.fetched if isinstance(source, ConsumedSource | AdvancedSource) and source.fetching else None

    @property
    def iterable(self) -> Any:
        """What the loop was given."""
        if self.keyed is not None:
            return self.keyed.iterable
        return self.source.iterable if self.source is not None else None

    def travelling(self) -> Any:
        """The input that is part of the states of inner loops, too; None where it is not."""
        if self.keyed is not None:
            return self.keyed.travelling()
        return self.source.saved() if self.source is not None and self.source.begins == "written" else None

    def go_on_with(self, travelled: Any) -> Any:
        """What follows the item in progress, with the input that came back with an inner loop's state."""
        if self.keyed is not None:
            self.keyed.go_on_with(travelled)
            return self.keyed.remaining(None)
        assert self.source is not None
        return self.source.start(self.index + 1, travelled)

    @property
    def at_base(self) -> bool:
        return self.base_index == self.index


def inputs_to_save(outer: list[Node], node: Node, *, in_block: bool) -> dict[str, Any]:
    """What the inputs of the loop at ``node``, and of those around it, add to its state.

    In a block also how long they were when they were given, as far as they travel: its variables do not.
    """
    found: dict[str, Any] = {"outer": [one.travelling() for one in outer]}
    if node.keyed is not None:
        found["done"], found["items"] = node.keyed.saved(), node.keyed.travelling()
    elif node.source is not None:
        found["input"] = node.source.saved()
    if in_block:
        given = [None if one.travelling() is None else one.given_length for one in [*outer, node]]
        found["given"] = given if any(given) else []
    return found


def rerun_s(active: list[Node], rebased: Node | None) -> float:
    """Seconds of work that a resume would do again on the way, once the state at ``rebased`` is kept."""
    total = 0.0
    for node in active:
        if node is rebased:
            continue
        if not node.at_base:
            total += node.iteration_s - node.base_s
        stays = node.children[: node.stand_in_position(rebased)]
        total += node.merged_s + sum(child.rerun_s for child in stays if child.status == "live")
    return total


def freeze(top: list[Node], states: list[Kept]) -> list[PathNode]:
    """The path as a checkpoint records it; the kept states that it names are appended to ``states``."""
    frozen = []
    for node in top:
        number = None
        if node.base is not None:
            number = len(states)
            states.append(node.base)
        going_on = node.status in ("active", "live")
        in_progress = going_on and bool(node.children) and node.item is not NO_ITEM
        frozen.append(
            PathNode(
                site=node.site,
                label=node.label,
                line=node.line,
                status=node.status,
                entry=node.entry,
                arrives=node.arrives,
                base_index=node.base_index,
                index=node.index,
                state=number,
                length=node.source.length if node.source is not None else None,
                base_item=node.base_mark,
                item=_progress_mark(node) if in_progress else None,
                rerun_s=node.rerun_s,
                forgot=node.forgot,
                kind=node.kind,
                logged=node.logged,
                children=freeze(node.children, states) if going_on else [],
            )
        )
    return frozen


def _progress_mark(node: Node) -> Mark | None:
    """The item in progress: by its key where the loop has one."""
    if node.keyed is not None:
        return [node.item_key.hex(), "", 0]
    mark = base_mark(None, 1, node.item)
    return None if mark is None else [*mark[:2], 0]


def start_progress(node: Node, clock: Clock) -> None:
    """Show a progress bar for the loop at ``node`` from here on."""
    from ckpt.progress import Progress

    node.progress = Progress(clock)
    node.progress.start(node.label or "loop", node.source.length if node.source is not None else None, node.index)
