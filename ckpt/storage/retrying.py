"""When a request to a storage is made again, and for how long. Owns no I/O; clock and randomness are given.

Exponential backoff with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), bounded
by a total deadline. What the server asks for (Retry-After) is honoured as the least pause, as far as the deadline allows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ckpt import events
from ckpt.protocols import Clock
from ckpt.storage.secrets import Redactor
from ckpt.storage.verdicts import Verdict, judge, retry_after_s

T = TypeVar("T")

SILENCE_S = 3.0
"""A storage that has failed for so long is worth a line."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds: the first pause's upper bound, which doubles up to ``longest_s``; ``deadline_s`` since the first try."""

    first_s: float = 0.1
    longest_s: float = 8.0
    deadline_s: float = 60.0

    def pause_s(self, attempt: int, asked_s: float, random_fraction: float) -> float:
        """The pause after try number ``attempt`` (from 0), when the server asked for at least ``asked_s``."""
        bound_s = min(self.longest_s, self.first_s * 2.0 ** min(attempt, 30))
        return asked_s + bound_s * random_fraction


POLICY = RetryPolicy()
"""How long a storage that fails is waited for, by default."""


class Retrying:
    """Makes calls to the storage at ``url`` again while that makes sense. Thread-safe."""

    def __init__(
        self, url: str, policy: RetryPolicy, clock: Clock, randomness: random.Random, *, redact: Redactor
    ) -> None:
        self._url, self._policy, self._clock, self._random = url, policy, clock, randomness
        self._redact = redact
        self._silent = False

    def call(self, request: Callable[[], T]) -> T:
        """What ``request`` returns; it is made again after a transient error until the deadline. Raises its last error."""
        return self.attempt(lambda: (request(),))[0]

    def attempt(self, request: Callable[[], tuple[T] | Exception]) -> tuple[T]:
        """The same for a request that may *return* a transient error (one that it has looked into itself)."""
        began_s, tries = self._clock.monotonic(), 0
        while True:
            try:
                found = request()
            except Exception as error:
                if judge(error) is not Verdict.TRANSIENT:
                    raise
                found = error
            if isinstance(found, tuple):
                self._answered()
                return found
            self._wait(found, began_s, tries)
            tries += 1

    def _wait(self, error: Exception, began_s: float, tries: int) -> None:
        """Pause before the next try. Raises ``error`` if that would be behind the deadline."""
        passed_s = self._clock.monotonic() - began_s
        pause_s = self._policy.pause_s(tries, retry_after_s(error), self._random.random())
        if passed_s + pause_s > self._policy.deadline_s:
            raise error
        if passed_s + pause_s >= SILENCE_S and not self._silent:
            self._silent = True
            why = self._redact(f"{type(error).__name__}: {error}")
            events.say(f"{self._url} does not answer as it should, trying again: {why}")
        self._clock.sleep(pause_s)

    def _answered(self) -> None:
        if self._silent:
            self._silent = False
            events.say(f"{self._url} answers again")
