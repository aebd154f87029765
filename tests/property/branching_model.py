"""What a run knows on the branch that it is on, for the test of resets, forks and repairs: by place, never by LSN."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

Step = tuple[str, int]
"""Of a recorded operation: "step" or "map", and its serial number."""


@dataclass(frozen=True)
class Point:
    """A checkpoint: all that was recorded when its state was read, and from which place on it needs that."""

    number: int
    operations: tuple[Step, ...]
    maps_from: int
    journal: tuple[int, ...]
    """The serial numbers of the operations of logged objects so far."""
    image_at: int
    """From here on they are needed."""
    before: tuple[Point, ...]
    """The checkpoints that it was built upon, oldest first."""


@dataclass
class Branch:
    """A run as it is now. ``points``: all checkpoints that it ever had, by number; ``newest`` is the last on this branch."""

    address: str
    operations: list[Step] = field(default_factory=list)
    journal: list[int] = field(default_factory=list)
    points: dict[int, Point] = field(default_factory=dict)
    newest: Point | None = None
    positions: list[tuple[int, int]] = field(default_factory=list)
    """Positions of the run since: (number of the checkpoint that each rests on, operations of logged objects up to there)."""

    def commit(self, point: Point) -> None:
        self.points[point.number] = self.newest = point

    def reset(self, to: int, number: int) -> None:
        point = self.points[to]
        self.operations, self.journal, self.positions = [*point.operations], [*point.journal], []
        self.commit(replace(point, number=number))

    def fork(self, number: int, address: str) -> Branch:
        point = replace(self.points[number], before=())
        return Branch(address, [*point.operations], [*point.journal], {number: point}, point)

    def resume(self) -> tuple[Point | None, int]:
        """The checkpoint that the run goes on from, and how many operations of logged objects there are then."""
        if self.newest is None:
            return None, 0
        if self.positions and self.positions[-1][1] > len(self.newest.journal):
            number, there = self.positions[-1]
            return self.points[number], there
        return self.newest, len(self.newest.journal)
