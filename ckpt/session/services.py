"""Everything that one attempt works with, put together by ``attempt.open_attempt``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt import events
from ckpt.capture.state import Captured
from ckpt.checkpointer import Kept
from ckpt.format.keys import Key
from ckpt.format.names import RunNames
from ckpt.format.path import OVER, path_text, resumed_text
from ckpt.history import AFRESH
from ckpt.lease import HeldLease
from ckpt.letters import Letters
from ckpt.log import LogWriter
from ckpt.outputs import Outputs
from ckpt.protocols import Clock, Storage
from ckpt.recovery import ResumePoint
from ckpt.retention import Retention
from ckpt.session.mapjournal import Found
from ckpt.session.pulse import Pulse
from ckpt.session.steps import decode_results
from ckpt.settings import Options
from ckpt.snapshot import SnapshotWriter
from ckpt.staging import Stager


@dataclass(slots=True)
class Services:
    """The parts of an attempt, and what it found when it began.

    ``resume`` is where it goes on (None: at the beginning, with ``operations`` recorded before); ``over``: the
    ``with`` block was left before, and only its state is wanted; ``facts`` describe the attempt for the log (host, pid, command ...).
    """

    options: Options
    storage: Storage
    names: RunNames
    key: Key
    clock: Clock
    entropy: Callable[[int], bytes]
    redact: Callable[[str], str]
    lease: HeldLease
    log: LogWriter
    snapshots: SnapshotWriter
    retention: Retention
    stager: Stager
    trigger: Any
    facts: Mapping[str, Any]
    attempts: list[dict[str, Any]]
    code: Mapping[str, str]
    resume: ResumePoint | None
    operations: list[tuple[bytes, bytes]]
    maps: Mapping[bytes, Found]
    letters: Letters
    last_number: int
    """The highest number that a checkpoint of the run has so far."""
    over: bool
    outputs: Outputs
    pulse: Pulse | None
    pulse_every_s: float
    remade_types: tuple[type, ...] = ()
    _captured: dict[str, Any] = field(default_factory=dict)
    _described: tuple[Kept | None, dict[str, int]] = (None, {})
    _kept: dict[int, Kept] = field(default_factory=dict)
    _newest: Mapping[str, Any] | None = None

    @property
    def saved_at(self) -> str:
        """The position of the newest durable checkpoint (``i 68/100``); empty if that is where the run began."""
        head = self._newest or (self.resume.head if self.resume is not None else {"path": []})
        beyond = any(node["kind"] != "loop" or node["index"] or node["status"] in OVER for node in head["path"])
        return str(head["where"]) if beyond else ""

    @property
    def found_results(self) -> bool:
        """Whether earlier attempts have recorded results that this one has not to compute again."""
        return bool(self.operations) or any(found.has_results for found in self.maps.values())

    @property
    def key_address(self) -> str:
        """The run's address; started afresh, it is another one to whoever gets operation keys that are made of it."""
        afresh = self.facts.get(AFRESH, 0)
        return f"{self.names.address}#{afresh}" if afresh else self.names.address

    def note_saved(self, head: Mapping[str, Any]) -> None:
        """A checkpoint with this head is durable."""
        self._newest = head

    def recovered_results(self) -> dict[bytes, bytes]:
        """Results that re-execution may ask for: retained by the checkpoint, then recorded since, the latest winning."""
        found: dict[bytes, bytes] = {}
        if self.resume is not None:
            found = decode_results(self.resume.results, self.names.address)
        found.update(self.operations)
        for identity in self.maps:
            found.setdefault(identity, b"")  # what stands for a map's results (see ``session/mapping.py``)
        return found

    def resumed_state(self, number: int) -> Kept:
        """Snapshot ``number`` of the checkpoint that is resumed: one object, however often it is named."""
        assert self.resume is not None
        kept = self._kept.get(number)
        if kept is None:
            ref = self.resume.refs[number]
            kept = self._kept[number] = Kept(None, ref, ref.nbytes)
        return kept

    def resumed_parts(self, number: int) -> list[Any]:
        assert self.resume is not None
        return self.resume.parts[number]

    def resumed_values(self, load: Callable[[list[Any]], Any]) -> Mapping[str, Any]:
        """What the state at the resume point itself holds besides variables (where a ``with`` block goes on)."""
        assert self.resume is not None
        last = None
        nodes = self.resume.path
        while nodes:
            last = nodes[-1]
            nodes = last.children
        if last is None or last.state is None:
            return {}
        found: Mapping[str, Any] = load(self.resumed_parts(last.state))["extras"]
        return found

    def note_captured(self, captured: Captured, kept: Kept, besides: Mapping[str, int]) -> None:
        """Remember what the state ``kept`` holds: variables, and ``besides`` what has names in a block."""
        if captured.captured or captured.remade or besides:
            self._captured = {"captured": {**captured.captured, **besides}, "remade": captured.remade}
            self._described = (kept, captured.parts)

    def parts_head(self, states: list[Kept]) -> dict[str, Any]:
        """Which parts of which of ``states`` are the variables that ``captured`` names, as far as that is known."""
        kept, parts = self._described
        number = next((number for number, state in enumerate(states) if state is kept), None)
        return {"parts": parts, "parts_of": number} if parts and number is not None else {}

    def checkpoint_head(self) -> dict[str, Any]:
        """The fields of a CHECKPOINT head that are the same for a whole attempt, or nearly."""
        afresh = {AFRESH: self.facts[AFRESH]} if AFRESH in self.facts else {}
        counts = {"code": self.code, "attempts": self.attempts, **afresh}
        return {**counts, **self._captured, **self.letters.head()}

    def status_head(self, status: str, error: str | None = None) -> dict[str, Any]:
        """The head of a STATUS record."""
        when = self.clock.now()
        return {**self.facts, "status": status, "when": when, "error": error, "attempts": self.attempts, **self.letters.head()}

    def finished(self, lsn: int, packs: frozenset[str]) -> None:
        """The run's result is recorded at ``lsn``: let go of the rest, unless ``ckpt retry`` may want to go on from it."""
        if self.letters.marked:
            events.say(
                f"{self.names.address}: not reached were items that `ckpt retry` marked ({self.letters.marked}): the run went "
                "on behind their map; to execute them, run it afresh"
            )
        if not self.letters.all():
            self.retention.finished(lsn, packs)

    def _items_text(self) -> str:
        """How many items of maps are recorded behind the resume point: for a bare map that is all the progress there is."""
        count = sum(found.items for found in self.maps.values())
        return f", with {count:,} item{'s' * (count != 1)} recorded" if count else ""

    def say_resumed(self) -> None:
        assert self.resume is not None
        if self.over:
            return  # it was said to be back when the block was found to be finished
        age = events.span_text(max(0.0, self.clock.now() - float(self.resume.head["when"])))
        where = path_text(self.resume.path)
        events.say(
            f"{self.names.address}: resumed {resumed_text(self.resume.path)}{self._items_text()} "
            f"(checkpoint {self.resume.head['number']}, taken {age} ago; attempt {self.log.epoch})"
        )
        events.emit("resumed", address=self.names.address, where=where, attempt=self.log.epoch)
