"""A marked loop that the code has just reached: its node, its input, and the recorded node that it has to match."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass

from ckpt.capture.state import StateCapture
from ckpt.format.path import PathNode
from ckpt.session.conductor import Input
from ckpt.session.keyed import KeyedItems
from ckpt.session.mapjournal import MapSource
from ckpt.session.node import Node
from ckpt.session.refusals import other_loop
from ckpt.session.sources import can_travel, source_of


@dataclass(frozen=True, slots=True)
class Arrival:
    """``saved`` is what the resume point says of this entry, if it lies in or behind it. ``where``: for messages."""

    node: Node
    saved: PathNode | None
    frame: types.FrameType | None
    where: str


def give(node: Node, given: Input, where: str, capture: StateCapture, passed: Callable[[], None]) -> None:
    """Tell ``node`` what it iterates. UnsupportedCodeError for an input that cannot start again."""
    if given.key is not None:
        stays = not capture.by_value({"": given.iterable})
        node.keyed = KeyedItems(given.iterable, given.key, where, passed, private=given.private, in_place=stays)
    else:
        node.source = source_of(given.iterable, where, private=given.private, passed=passed)
        if isinstance(node.source, MapSource):
            node.source.awaited = given.awaited
        node.given_length = node.source.length if node.source.begins == "written" else None


def match(node: Node, saved: PathNode, where: str) -> None:
    """Make ``node`` the entry that ``saved`` is. ReplayDivergedError if it is another loop."""
    if saved.site != node.site or (saved.label and node.label and saved.label != node.label):
        raise other_loop(saved, node, where)
    node.entry, node.arrives, node.rerun_s = saved.entry, saved.arrives, saved.rerun_s
    node.forgot = saved.forgot
    if saved.arrives != saved.entry:  # it stands for several entries, in later checkpoints, too
        can_travel(node.source)
    node.index = node.base_index = saved.base_index
    node.base_mark = saved.base_item
