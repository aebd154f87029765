"""What ``ckpt.map`` gives: an iterable of results, lazy and bounded at both ends.

By ``for``, or by ``async for`` (``aresults``): then the event loop goes on while nothing is there to hand out. The thread that iterates reads the items, at most some times as many ahead as are executed at a time, and hands results
out. Results that were recorded by an earlier attempt are handed out without executing anything: in the order of the
input, or (``ordered=False``) in the order in which they were recorded, which is the order of the first time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sized
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, Protocol

from ckpt.asynchrony import running_loop
from ckpt.codecs.pickling import from_bytes
from ckpt.errors import OptionError, UnsupportedCodeError
from ckpt.mapping.engine import Done, Engine, Item
from ckpt.mapping.failed import Failed
from ckpt.mapping.identity import Identities
from ckpt.mapping.options import MapOptions
from ckpt.mapping.pools import Tasks, pool_of
from ckpt.mapping.work import RAISED, Work
from ckpt.progress import Progress
from ckpt.protocols import Clock
from ckpt.settings import is_coroutine_function

GRACE_S = 10.0
"""What is being executed when a map is stopped may take this long to be recorded."""
LOOK_S = 0.05
"""How often a map that waits for a result looks whether the run is to be stopped."""
AHEAD = 8
"""Items in hand for each that is being executed: a slow one does not keep the others waiting for a while."""
_PATIENCE = 10_000
"""Items of the input that are kept while a recorded one is looked for: it may not be in the input any more."""


class Journal(Protocol):
    """Where a map's results are recorded. Called by the thread that iterates, except for ``record``."""

    address: str
    identity: bytes
    """Which map of the run ``address`` this is: the same in every attempt."""
    grace_s: float
    """How long what is being executed may take to be recorded, when the map is stopped."""

    def recovered(self) -> dict[bytes, tuple[int, bytes, int, int]]:
        """What earlier attempts recorded: identity -> (kind, data, attempts, LSN), in the order of the log."""

    def is_done(self, identity: bytes) -> bool:
        """Whether the item was handed out before the resume point."""

    def record(self, batch: Iterable[Done]) -> None:
        """Make a batch durable, and set its LSNs. Called by the engine's thread."""

    def handed_out(self, done: Done) -> None:
        """The result is about to be handed out."""

    def waiting(self) -> bool:
        """Called now and then by the thread that waits: True if the run was asked to stop."""

    def stop(self) -> None:
        """End the attempt: raises Preempted. Only after ``waiting`` said so."""


@dataclass(slots=True)
class Setting:
    """What a map works with besides its options."""

    journal: Journal
    clock: Clock
    entropy: Callable[[int], bytes]
    inside: Callable[[bytes | None, str], None]
    label: str
    opened: Callable[[Results], None] = lambda results: None
    context: Callable[[], Context] = copy_context
    """The context of the tasks in which coroutines are executed."""


SKIPPED = object()


class Results:
    """The results of one map, to be gone through once. No work is done before the first is asked for."""

    def __init__(self, function: Callable[[Any], Any], items: Iterable[Any], options: MapOptions, setting: Setting) -> None:
        self._function, self._items, self._options, self._setting = function, items, options, setting
        self._journal = setting.journal
        self._length = len(items) if isinstance(items, Sized) else None
        self._engine: Engine | None = None
        self._tasks = Tasks(Context())
        self._told: Callable[[], None] = lambda: None
        self._arrived: list[Done] = []
        self._started = self._exhausted = False
        self._identities = Identities(options.key, f"ckpt.map({setting.label})")
        self._progress = Progress(setting.clock)
        self._given = 0
        self.over = False
        """Whether all that there was has been handed out."""

    @property
    def journal(self) -> Journal:
        return self._journal

    @property
    def length(self) -> int | None:
        """The number of items, if it is known."""
        return self._length

    def __length_hint__(self) -> int:
        length = self.length
        return NotImplemented if length is None else length

    def __iter__(self) -> Iterator[Any]:
        if is_coroutine_function(self._function) and running_loop() is not None:
            raise UnsupportedCodeError(
                "a plain for would hold up the event loop that the coroutines are to run in",
                where=f"ckpt.map({self._setting.label})",
                fix="async for ... in ckpt.map(...); where that cannot be, start it in a thread: asyncio.to_thread",
            )
        self._start()
        return self._all()

    def __aiter__(self) -> AsyncIterator[Any]:
        from ckpt.mapping.aresults import AsyncResults  # loads asyncio, which is there already

        self._start()
        return AsyncResults(self)

    def _start(self) -> None:
        if self._started:
            raise OptionError(
                "the results of a map are gone through once", where=f"ckpt.map({self._setting.label})",
                fix="keep them (list(ckpt.map(...))), or map again",
            )
        self._started = True

    def _all(self) -> Iterator[Any]:
        grace_s = self._journal.grace_s
        try:
            for done in self.in_turn():
                if done is None:
                    self._wait()
                elif (result := self.handed_out(done)) is not SKIPPED:
                    yield result
        except GeneratorExit:
            grace_s = grace_s if self._journal.waiting() else 0.0
            raise
        except KeyboardInterrupt:  # the second one: quit at once
            grace_s = 0.0
            raise
        finally:
            self.close(grace_s)

    # -- for those who iterate ------------------------------------------------------------------------------

    def in_turn(self, loop: Any = None, told: Callable[[], None] = lambda: None) -> Iterator[Done | None]:
        """What is to be handed out, in its order; None: nothing is there before ``look`` said so.

        ``loop``: the event loop for coroutines; ``told`` is called, in another thread, when it may be worth a look.
        """
        self._tasks, self._told = Tasks(self._setting.context(), loop), told
        source = iter(self._items)
        yield from self._ordered(source) if self._options.ordered else self._as_completed(source)
        self.over = True
        self._items, self._identities = (), Identities(None, "")  # nobody needs them any more

    def handed_out(self, done: Done) -> Any:
        """The result that ``done`` is, or SKIPPED. Raises the exception of an item that failed."""
        self._journal.handed_out(done)
        self._given += 1
        self._progress.advance_to(self._given)
        if done.kind != RAISED:
            return from_bytes(done.data)
        if self._options.on_error == "collect":
            return Failed(done.item.value, from_bytes(done.data), done.attempts)
        if self._options.on_error == "raise":
            raise from_bytes(done.data)
        return SKIPPED

    def look(self, timeout_s: float) -> bool:
        """Whether something has been finished meanwhile; waits that long for it. Raises what ended the engine."""
        assert self._engine is not None
        self._arrived += self._engine.take(timeout_s)
        return bool(self._arrived)

    @property
    def executing(self) -> bool:
        """Whether there is something to ``close``."""
        return self._engine is not None

    def _wait(self) -> None:
        while True:
            found = self.look(LOOK_S)
            if self._journal.waiting():
                self.close(self._journal.grace_s)
                self._journal.stop()
            if found:
                return

    def close(self, grace_s: float = 0.0) -> None:
        """End what is being executed, after ``grace_s`` seconds to be recorded. Repeatable."""
        engine, self._engine = self._engine, None
        self._progress.stop()
        if engine is not None:
            engine.close(grace_s)

    # -- reading items --------------------------------------------------------------------------------------

    def _read(self, source: Iterator[Any], recorded: dict[bytes, tuple[int, bytes, int, int]]) -> Iterator[Done | Item]:
        """The items in the order of the input: with what was recorded of them, or still to be executed."""
        for value in source:
            identity = self._identities.of(value)
            if self._journal.is_done(identity):
                self._given += 1
                continue
            found = recorded.pop(identity, None)
            item = Item(identity, value)
            yield item if found is None else Done(item, found[0], found[1], found[2], lsn=found[3])

    def _execute(self, items: list[Item]) -> None:
        if not items:
            return
        if self._engine is None:
            setting = self._setting
            journal = self._journal
            work = Work(
                self._function, _tuple(self._options.retry_on), journal.address, journal.identity, setting.inside
            )
            pool = pool_of(self._options, work, self._tasks)
            self._engine = Engine(pool, self._options, setting.clock, setting.entropy(8), self._journal.record)
            self._engine.told = self._told
            setting.opened(self)
            if self._options.progress:
                self._progress.start(setting.label, self.length, self._given)
        self._engine.put(items)

    def _window(self) -> int:
        return AHEAD * self._engine.width if self._engine is not None else AHEAD

    def _taken(self) -> list[Done]:
        taken, self._arrived = self._arrived, []
        return taken

    # -- handing out ----------------------------------------------------------------------------------------

    def _ordered(self, source: Iterator[Any]) -> Iterator[Done | None]:
        read = self._read(source, self._journal.recovered())
        order: deque[bytes] = deque()
        ready: dict[bytes, Done] = {}
        while True:
            if not self._exhausted and 2 * len(order) <= self._window():
                self._exhausted = True
                new: list[Item] = []
                for one in read:
                    item = one.item if isinstance(one, Done) else one
                    order.append(item.identity)
                    if isinstance(one, Done):
                        ready[item.identity] = one
                    else:
                        new.append(item)
                    if len(order) >= self._window():
                        self._exhausted = False
                        break
                self._execute(new)
            if not order:
                return
            head = order.popleft()
            while head not in ready:
                yield None
                for done in self._taken():
                    ready[done.item.identity] = done
            yield ready.pop(head)

    def _as_completed(self, source: Iterator[Any]) -> Iterator[Done | None]:
        recorded = self._journal.recovered()
        sequence = deque(recorded)
        read = self._read(source, recorded)
        backlog: deque[Item] = deque()
        yield from self._as_recorded(read, sequence, backlog)
        inside = 0
        arrived: deque[Done] = deque()
        while True:
            if 2 * inside <= self._window() and not (self._exhausted and not backlog):
                new: list[Item] = []
                while inside + len(new) < self._window() and (one := self._next(read, backlog)) is not None:
                    if isinstance(one, Done):  # recorded out of the order of the input: its item came late
                        yield one
                    else:
                        new.append(one)
                inside += len(new)
                self._execute(new)
            if arrived:
                yield arrived.popleft()
            elif inside:
                yield None
                taken = self._taken()
                inside -= len(taken)
                arrived.extend(taken)
            else:
                return

    def _next(self, read: Iterator[Done | Item], backlog: deque[Item]) -> Done | Item | None:
        if backlog:
            return backlog.popleft()
        one = next(read, None)
        self._exhausted = one is None
        return one

    def _as_recorded(
        self, read: Iterator[Done | Item], sequence: deque[bytes], backlog: deque[Item]
    ) -> Iterator[Done]:
        """What was recorded, in that order, as far as the input still has it. Others that are met go to ``backlog``."""
        met: dict[bytes, Done] = {}
        while sequence:
            if self._journal.is_done(sequence[0]):
                sequence.popleft()
                continue
            found = met.pop(sequence[0], None)
            if found is not None:
                sequence.popleft()
                yield found
                continue
            one = next(read, None)
            if isinstance(one, Done):
                met[one.item.identity] = one
            elif one is not None:
                backlog.append(one)
            if one is None or len(backlog) > _PATIENCE:
                sequence.popleft()  # it is gone from the input, or so far behind that it is handed out when it comes
                sequence = deque(identity for identity in sequence if identity in met) if one is None else sequence
        yield from met.values()


def _tuple(given: Any) -> tuple[type[BaseException], ...]:
    return given if isinstance(given, tuple) else (given,)


class NoJournal:
    """Outside any run: nothing is recorded, nothing comes back."""

    grace_s = 0.0

    def __init__(self, address: str, identity: bytes) -> None:
        self.address, self.identity = address, identity

    def recovered(self) -> dict[bytes, tuple[int, bytes, int, int]]:
        return {}

    def is_done(self, identity: bytes) -> bool:
        return False

    def record(self, batch: Iterable[Done]) -> None:
        """Nothing."""

    def handed_out(self, done: Done) -> None:
        """Nothing."""

    def waiting(self) -> bool:
        return False

    def stop(self) -> None:
        """Never asked to."""

