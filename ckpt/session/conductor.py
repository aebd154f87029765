"""The seam between the track (where the run is) and the run (what is done about it)."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ckpt.checkpointer import Kept
from ckpt.errors import CkptError
from ckpt.format.path import PathNode
from ckpt.session.node import Node


class Conductor(Protocol):
    """What the track asks of the session around it."""

    def now(self) -> float: ...

    def keep(self, node: Node, frame: types.FrameType | None) -> Kept:
        """Read and stage the state at this point."""

    def discard(self, kept: Kept) -> None:
        """``kept`` is named by no node any more."""

    def values_to_save(self) -> dict[str, Any]:
        """What every state holds besides variables: ``run.state`` namespaces, lengths of output files."""

    def restored(self, node: Node, saved: PathNode, extras: Mapping[str, Any]) -> None:
        """The state at ``node`` is back: what ``values_to_save`` gave, and logged objects, follow."""

    def parts_of(self, state: int) -> list[Any]:
        """The verified parts of snapshot ``state`` of the checkpoint that is being resumed."""

    def replaying(self) -> None:
        """The way back goes on: an iteration was run again, or an item consumed again.

        A sign of life if one is due. Nothing new has to be saved: if the run was asked to stop, raise Preempted.
        """

    def replayed(self) -> None:
        """The resume point is reached."""

    def kept(self, state: int) -> Kept:
        """That snapshot, as something that later checkpoints can name again."""

    def count(self, node: Node) -> None:
        """``node`` has passed iterations that may have to be counted."""

    def short_of_memory(self, error: CkptError) -> None:
        """A state could not be copied, and the run goes on without."""

    def postpone(self, error: Exception) -> None:
        """Raise ``error`` at the next safe point that can raise."""

    def passed(self, node: Node, frame: types.FrameType | None, kind: str) -> None:
        """A safe point: "entry", "iteration", "exit" or "closed" (where nothing can be raised)."""


@dataclass(frozen=True, slots=True)
class Input:
    """What ``ckpt.loop`` was given. ``private``: nobody else refers to the iterable; ``awaited``: by ``async for``."""

    iterable: Any
    key: Any
    private: bool
    awaited: bool = False
