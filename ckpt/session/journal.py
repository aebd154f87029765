"""The operation-logged objects of one run: what is recorded of them, and how they are brought back.

All operations of all objects are one history; a *position* in it counts them from the run's beginning. An attempt
that goes on at a position records from there on, and what was recorded behind it before is void. While the code is run
again on the way to the resume point, its operations are applied and counted but not recorded: the log has them.

Used by the job's thread only. An operation is durable when its record is: with a checkpoint, or with the position of a
loop (see ``committing``).
"""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ckpt.checkpointer import Kept
from ckpt.errors import OptionError, ReplayDivergedError, UnsupportedCodeError
from ckpt.format.path import PathNode
from ckpt.format.records import Kind
from ckpt.session import current, image
from ckpt.session.checking import Checked
from ckpt.session.containers import KINDS, Operation
from ckpt.session.history import NEW, History
from ckpt.session.image import Imaged
from ckpt.session.logged import Body, Bound, Logged, bind, kind_text
from ckpt.session.services import Services

SPILL = 10_000
"""Operations that are kept in memory until they are written to the log, which pickles them at once."""

IMAGE_BYTES = 1 << 20
"""Operations of this many bytes, and at least of the size of the last image, are worth a new image."""

WANTED = "operations"
"""The word in ``attention`` that says: there are operations to be recorded at the next safe point."""


@dataclass(slots=True)
class Image:
    """The newest image: all objects at ``position``; records up to LSN ``after`` are not needed with it."""

    position: int = 0
    after: int = 0
    kept: Kept | None = None


class Journal:
    """Owned by the ``Run``. ``position`` counts the operations of all objects so far."""

    def __init__(self, services: Services, run: Any, attention: list[str], *, eager: bool) -> None:
        """``eager``: a loop shall come by as soon as there is an operation, to record it."""
        self._services, self._run, self._attention, self._eager = services, run, attention, eager
        self._bodies: dict[str, Body] = {}
        self._deferred: dict[str, list[Any]] = {}
        self._begun: set[str] = set()
        self._operations: list[Operation] = []
        self._recording = self._asked = False
        self._restored_at: int | None = None
        self._late: int | None = None
        self._image, self._bytes = Image(), 0
        self._history: History | None = None
        self._has_history = False
        self.position = 0
        self.pending = False
        """Whether there are operations that no durable record holds, and no checkpoint that was submitted."""
        resume = services.resume
        if resume is not None and "logged" in resume.head:
            self._adopt(resume.head["logged"])

    def _adopt(self, head: dict[str, Any]) -> None:
        resume, number = self._services.resume, head["image"]
        assert resume is not None
        kept = None if number is None else self._services.resumed_state(number)
        self._image = Image(head["first"], head["after"], kept)
        parts = None if number is None else self._services.resumed_parts(number)
        self._history = History(head["first"], parts, resume.logged, self._services.names.address)
        self._has_history = True
        self._bytes = sum(len(record.sections[0]) for record in resume.logged)

    # -- objects ----------------------------------------------------------------------------------------------

    def builtin(self, kind: type[Any], name: str) -> Any:
        """The object of this name, made if there is none. OptionError if it is of another class."""
        return self._obtain(kind, name, lambda: kind(name, self.note))

    def custom(self, kind: type[Logged], name: str, given: tuple[Any, Any], *, check: bool) -> Any:
        """The same for a class of the program's own, made with the (positional, named) arguments ``given``."""
        if "<locals>" in kind.__qualname__:
            fix = "move the class to the top of its module"
            raise OptionError(f"class {kind.__qualname__} is defined inside a function", where=name, fix=fix)

        def make() -> Logged:
            made = kind(*given[0], **given[1])
            bind(made, Bound(name, self.note, Checked().watching if check else None))
            return made

        return self._obtain(kind, name, make)

    def find(self, kind: Any, name: str) -> Any:
        """The object that a restored variable refers to; its contents follow."""
        if isinstance(kind, str):
            return self.builtin(KINDS[kind], name)
        return self._obtain(kind, name, lambda: _bare(kind, Bound(name, self.note)))

    def _obtain(self, kind: type[Any], name: str, make: Callable[[], Any]) -> Any:
        self._restore_late()
        body = self._bodies.get(name)
        if body is None:
            self._check_usable(name)
            body = self._bodies[name] = make()
            recorded = self._deferred.pop(name, None)
            if recorded is not None:
                _replay(body, recorded)
            elif not self._services.over:
                self._begin(name, body)
        if kind_text(type(body)) != kind_text(kind):
            what = f"{name!r} is a {kind_text(type(body))}, and is asked for as a {kind_text(kind)}"
            raise OptionError(what, where=self._services.names.address, fix="give each object a name of its own")
        return body

    def _begin(self, name: str, body: Body) -> None:
        if not self._begun and not self._has_history:
            self._image.after = self._services.log.position
        self._begun.add(name)
        self.note((name, NEW, kind_text(type(body)), body.contents()))

    # -- recording --------------------------------------------------------------------------------------------

    def note(self, operation: Operation) -> None:
        """An operation is about to be applied. UnsupportedCodeError where no resume could know of it."""
        if current.run_of_thread() is not self._run:
            self._check_usable(operation[0])
        self.position += 1
        if not self._recording:
            return
        self._operations.append(operation)
        self.pending = True
        if len(self._operations) >= SPILL:
            self.spill()
        if self._eager and not self._asked:
            self._asked = True
            self._attention.append(WANTED)

    def _check_usable(self, name: str) -> None:
        if not self._run.alive:
            raise OptionError(f"the run of {name!r} is over", fix="use it inside its job or with block")
        if current.run_of_thread() is not self._run:
            raise UnsupportedCodeError(
                f"{name!r} is changed in a step, in an operation of another object, or in another thread",
                where=self._services.names.address,
                fix="change it in the job itself, with what the step or the thread returned",
            )

    def known_at_checkpoints_only(self) -> None:
        """The run has other state as well: operations are recorded with checkpoints."""
        self._eager = False

    def spill(self) -> None:
        """Hand the operations to the log, where the next durable record takes them along."""
        if self._operations:
            self._append(self.batch(), durable=False)

    def batch(self) -> dict[str, Any]:
        """The head of a record of all operations that the log does not have yet."""
        counted = collections.Counter(operation[0] for operation in self._operations)
        count = len(self._operations)
        return {"logged": {"from": self.position - count, "count": count, "objects": dict(counted)}}

    def record(self, head: dict[str, Any]) -> None:
        """Append ``batch()`` with what else the record says; durable on return. StorageError: nothing was recorded."""
        self._append({**self.batch(), **head}, durable=True)
        self.pending = False

    def _append(self, head: dict[str, Any], *, durable: bool) -> None:
        data = pickle.dumps(self._operations, protocol=5)
        # Commit point of the operations, if the record says where the run goes on; else they belong to the next that does.
        self._services.log.append(Kind.OPERATION, head, [data], durable=durable)
        self._bytes += len(data)
        self._operations = []

    def looked_at(self) -> None:
        """A safe point has seen what is pending: the next operation asks for attention again."""
        self._asked = False

    def closed(self) -> None:
        self._recording = False

    @property
    def reached(self) -> int | None:
        """The position, for a state that is kept here; None where there are no objects."""
        return self.position if self._begun or self._has_history else None

    # -- checkpoints ------------------------------------------------------------------------------------------

    def checkpointed(self, path: list[PathNode], states: list[Kept]) -> dict[str, Any]:
        """What a checkpoint with this path says of the objects; the image that it needs is added to ``states``.

        ``spill`` comes first: the record is behind all operations so far.
        """
        if not self._begun and not self._has_history:
            return {}
        self.pending = False
        lowest = min(_positions(path), default=self.position)
        # A resume brings the objects to the positions of the states on its path: never further ahead than they are.
        if lowest >= self.position and self._bytes > max(IMAGE_BYTES, self._image.kept.nbytes if self._image.kept else 0):
            self._take_image()
        number = None
        if self._image.kept is not None:
            number = len(states)
            states.append(self._image.kept)
        sizes = {name: [kind_text(type(body)), _size(body)] for name, body in self._bodies.items()}
        head = {"position": self.position, "first": self._image.position, "after": self._image.after, "image": number}
        return {"logged": {**head, "objects": sizes}}

    def _take_image(self) -> None:
        for name, operations in list(self._deferred.items()):
            if operations[0][2] in KINDS:
                self.builtin(KINDS[operations[0][2]], name)
        if self._deferred or self._late is not None:
            return  # what this program has not asked for, and could not be made without it, stays in the log
        objects = {name: Imaged(kind_text(type(body)), body.contents()) for name, body in self._bodies.items()}

        def made() -> Any:
            index, *blocks = image.encode(objects)
            return self._services.stager.stage(index, blocks)

        self._image = Image(self.position, self._services.log.position, Kept(None, None, 0, made))
        self._bytes = 0

    # -- the way back -----------------------------------------------------------------------------------------

    def restore(self, position: int | None) -> None:
        """Bring all objects to where they were at ``position``; None: there were none."""
        if position is None:
            return
        if self._history is None:  # never in a log of ckpt's own
            raise ReplayDivergedError("the checkpoint has no history of logged objects", fix="see `ckpt verify`")
        self._late = None
        if self._restored_at == self.position and self.position <= position:
            operations = self._history.operations(self.position, position)
        else:
            self._forget()
            operations = self._history.operations(self._history.first, position)
        self._redo(operations)
        self.position = self._restored_at = position

    def restore_when_asked(self, position: int | None) -> None:
        """The same, as soon as the program has asked for an object (it may define their classes first)."""
        self._late = position
        self.position = position or 0

    def _restore_late(self) -> None:
        if self._late is not None:
            self.restore(self._late)
            self._history = None

    def _forget(self) -> None:
        """Back to the image."""
        assert self._history is not None
        self._begun, self._deferred = set(), {}
        for name, one in self._history.image().items():
            self._redo([(name, NEW, one.kind, one.contents)])

    def _redo(self, operations: Iterable[Operation]) -> None:
        bodies = self._bodies
        for operation in operations:
            body = bodies.get(operation[0])
            if operation[1] == NEW:
                self._begun.add(operation[0])
                self._deferred.pop(operation[0], None)
                if body is None:
                    self._deferred[operation[0]] = []
            if body is None:
                self._deferred[operation[0]].append(operation)
            else:
                _apply(body, operation)

    def arrived(self) -> None:
        """The resume point is reached: from here on operations are recorded.

        ReplayDivergedError if the code on the way did more than what was recorded.
        """
        services = self._services
        if services.over:
            return
        recorded = services.resume.position if services.resume is not None else None
        if recorded is not None and self.position > recorded:
            raise ReplayDivergedError(
                f"on the way to the resume point there were {self.position} operations, and {recorded} the first time",
                where=services.names.address,
                fix="the code before the loop must do the same again: record what differs with ckpt.step(...)",
            )
        if recorded is None:
            self.position, self._begun = 0, set()
        if self._late is None:
            self._history = None  # nothing will be restored any more: its memory is free
        self._recording = True
        for name, body in self._bodies.items():
            if name not in self._begun:
                self._begin(name, body)


def _positions(path: list[PathNode]) -> Iterable[int]:
    for node in path:
        if node.logged is not None:
            yield node.logged
        yield from _positions(node.children)


def _size(body: Body) -> int:
    return 1 if isinstance(body, Logged) or not hasattr(body, "__len__") else len(body)


def _bare(kind: type[Logged], bound: Bound) -> Logged:
    made = kind.__new__(kind)
    bind(made, bound)
    return made


def _replay(body: Body, operations: list[Operation]) -> None:
    for operation in operations:
        _apply(body, operation)


def _apply(body: Body, operation: Operation) -> None:
    if operation[1] == NEW:
        if operation[2] != kind_text(type(body)):
            what = f"{operation[0]!r} was a {operation[2]}, and the program makes it a {kind_text(type(body))}"
            raise ReplayDivergedError(what, fix="give the new object another name, or start afresh")
        body.fill(operation[3])
        return
    try:
        body.apply(operation)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ReplayDivergedError(
            f"operation {operation[1]!r} of {operation[0]!r} cannot be applied again ({type(error).__name__}: {error})",
            fix="run the version of the code that recorded it, or start afresh",
        ) from error
