"""The path of a resume point, as a checkpoint records it (JSON inside the CHECKPOINT head).

The path lists, in the order in which the code reaches them, the marked loops entered in the current iteration of their
enclosing loop. ``status`` says what to do when the re-run code reaches the loop again:

- ``active``: write the base state back, run from ``base_index`` up to ``index``; there the children follow;
- ``exhausted``, ``broken``: the loop is over (its input ended, or ``break``): write the base state back, yield no more;
- ``live``: as ``active``, but run on behind the children until the loop ends by itself, as it did before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OVER = ("exhausted", "broken")

END = "end"
"""The kind (and site) of the end of a ``with ckpt.open`` block."""


@dataclass(slots=True)
class PathNode:
    """One marked loop on the path; ``kind`` is "checkpoint" for a ``run.checkpoint()`` call, "end" for the end of a block.

    ``entry`` counts the entries below the same parent iteration, and ``arrives`` is the count at which the re-run code
    reaches it: smaller where entries of the same loop under a ``while`` were collapsed. Entries that the path does not
    list are simply run again. ``forgot``: results of its steps are gone, so its parent has to be kept at its next end. ``state`` is the number of the snapshot in the checkpoint's sections or None;
    ``base_item`` and ``item`` are marks (digest hex, short text, place) of the last item consumed
    before the base, and (the same and its key's digest) of the item in progress, or None. ``logged``: how many operations of
    logged objects came before the base; None where the run had no such object.
    """

    site: str
    label: str
    line: int
    status: str
    entry: int
    arrives: int
    base_index: int
    index: int
    state: int | None = None
    length: int | None = None
    base_item: list[Any] | None = None
    item: list[Any] | None = None
    rerun_s: float = 0.0
    forgot: bool = False
    kind: str = "loop"
    logged: int | None = None
    children: list[PathNode] = field(default_factory=list)

    def text(self) -> str:
        """``epoch 3/5``: position as a person reads it."""
        name = self.label or self.site.rpartition(".")[2]
        if self.status in OVER:
            return f"{name} done"
        return f"{name} {self.index}" + (f"/{self.length}" if self.length is not None else "")


_FIELDS = (
    *("site", "label", "line", "status", "entry", "arrives", "base_index", "index"),
    *("state", "length", "base_item", "item", "kind"),
)


def path_to_json(nodes: list[PathNode], depth: int = 0) -> list[dict[str, Any]]:
    """The nodes in path order, children right behind their parent, with their depth."""
    out: list[dict[str, Any]] = []
    for node in nodes:
        head = {name: getattr(node, name) for name in _FIELDS}
        out.append({**head, "depth": depth, "rerun_s": round(node.rerun_s, 4), "forgot": node.forgot})
        if node.logged is not None:
            out[-1]["logged"] = node.logged
        out += path_to_json(node.children, depth + 1)
    return out


def path_from_json(items: list[dict[str, Any]]) -> list[PathNode]:
    """The inverse of ``path_to_json``. KeyError, TypeError or ValueError for what is not a path."""
    top: list[PathNode] = []
    stack: list[PathNode] = []
    for item in items:
        node = PathNode(**{name: item[name] for name in _FIELDS}, rerun_s=item["rerun_s"], forgot=item["forgot"])
        node.logged = item.get("logged")
        depth = item["depth"]
        if not 0 <= depth <= len(stack):
            raise ValueError(f"depth {depth} below {len(stack)}")
        del stack[depth:]
        (stack[-1].children if stack else top).append(node)
        stack.append(node)
    return top


def path_text(nodes: list[PathNode]) -> str:
    """``epoch 3/5 > item 41/100``: the active loops only."""
    parts = []
    while nodes:
        last = nodes[-1]
        parts.append(last.text())
        nodes = last.children
    return " > ".join(parts) or "start"


def resumed_text(nodes: list[PathNode]) -> str:
    """``with epoch 3/5 > item 41/100 done``, for an index counts finished items; ``at start`` where no loop goes on."""
    last, below = None, nodes
    while below:
        last = below[-1]
        below = last.children
    counts = last is not None and last.kind == "loop" and last.status not in OVER
    return f"with {path_text(nodes)} done" if counts else f"at {path_text(nodes)}"


def ends_block(path: list[PathNode]) -> bool:
    """Whether the resume point is the end of a ``with ckpt.open`` block."""
    return bool(path) and path[-1].kind == END


def without_loops(path: list[PathNode]) -> bool:
    """Whether only ``run.checkpoint()`` calls lead to the resume point."""
    return bool(path) and all(node.kind == "checkpoint" for node in path if node.kind != END)
