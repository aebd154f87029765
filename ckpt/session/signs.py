"""What a run shows of itself while it runs: progress bars, and signs of life for a supervisor."""

from __future__ import annotations

from ckpt.checkpointer import Request
from ckpt.session.node import Node, start_progress
from ckpt.session.operations import Operations
from ckpt.session.pulse import Position, led_to, reached
from ckpt.session.saving import Saving
from ckpt.session.services import Services
from ckpt.session.track import Track

PROGRESS_S = 0.2
"""How often a progress bar moves."""


class Signs:
    """Of one attempt. Given by the job's thread at safe points, and by the checkpointer."""

    def __init__(self, services: Services, track: Track, operations: Operations, saving: Saving) -> None:
        self._services, self._track, self._operations, self._saving = services, track, operations, saving
        self._shows_progress = False

    def pulse(self) -> None:
        """The run has got to a safe point."""
        for node in self._track.active:
            if node.progress is not None:
                node.progress.advance_to(node.index)
        self.beat(reached(self._track.root))

    def beat(self, position: Position) -> None:
        if self._services.pulse is not None:
            self._services.pulse.beat(self._operations.recorded, position)

    def checkpointed(self, request: Request) -> None:
        """A checkpoint is durable."""
        for node in self._track.active:
            if node.progress is not None:
                node.progress.checkpointed(request.head["when"])
        self.beat(led_to(request.head["path"]))

    def show(self, node: Node, progress: bool | None) -> None:
        """A progress bar for the loop at ``node`` if that was asked for."""
        if (self._services.options.progress if progress is None else progress) and node.status == "active":
            start_progress(node, self._services.clock)
            if not self._shows_progress:
                self._shows_progress = True
                self._saving.add_chore(self._saving.pulse_chore(PROGRESS_S))
