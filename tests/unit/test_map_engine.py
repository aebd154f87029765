"""What a map has in hand: the engine with a pool and a storage that answer when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future

from ckpt.mapping.engine import Done, Engine, Item
from ckpt.mapping.options import MapOptions
from ckpt.mapping.work import OK, Outcome
from ckpt.testing import FakeClock

LIMIT_S = 20
WIDTH = 3


class HandPool:
    """Executes nothing by itself: the test finishes what was begun."""

    in_flight, spare, can_end, breaks_whole, chunk_s = WIDTH, WIDTH, False, False, 0.002

    def __init__(self) -> None:
        self.begun: list[Future[list[Outcome]]] = []
        self.items = 0

    def submit(self, chunk: Sequence[tuple[bytes, object]]) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        self.items += len(chunk)
        self.begun.append(future)
        return future

    def finish_all(self) -> None:
        """Each item took a second: chunks stay as small as they are."""
        for future in self.begun:
            if not future.done():
                future.set_result([(OK, b"", "", False, 1.0)])

    def end(self, future: Future[list[Outcome]]) -> None:
        raise AssertionError("nothing times out here")

    def close(self) -> None:
        self.finish_all()


class RoundsClock(FakeClock):
    """The engine looks at the clock before and after it waits for news: so the test knows that it went around."""

    def __init__(self) -> None:
        super().__init__()
        self._looked = threading.Condition()
        self._looks = 0

    def monotonic(self) -> float:
        with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return super().monotonic()

    def settled(self, engine: Engine) -> None:
        """Wait until the engine has dealt with everything that it was told before."""
        for _ in range(2):
            with self._looked:
                before = self._looks
                engine.put([])
                assert self._looked.wait_for(lambda before=before: self._looks >= before + 2, LIMIT_S)  # type: ignore[misc]


def test_what_is_finished_and_not_recorded_yet_counts_as_in_hand() -> None:
    """Else a storage that hangs would let a map execute everything, for a kill to repeat it."""
    pool, clock, may_record = HandPool(), RoundsClock(), threading.Event()
    recorded: list[Done] = []

    def settle(batch: Sequence[Done]) -> None:
        assert may_record.wait(LIMIT_S)
        recorded.extend(batch)

    engine = Engine(pool, MapOptions(), clock, b"seed", settle)
    try:
        engine.put([Item(bytes([n]), n) for n in range(60)])
        for _ in range(10):
            clock.settled(engine)
            pool.finish_all()
        clock.settled(engine)
        assert pool.items == 2 * WIDTH, "what a kill repeats is at most twice what is executed at a time"
        may_record.set()
        taken = 0
        while taken < 2 * WIDTH:
            taken += len(engine.take(LIMIT_S))
        clock.settled(engine)
        assert pool.items == 4 * WIDTH, "what is recorded is in hand no more"
    finally:
        may_record.set()
        engine.close(0.0)
