"""Why a run has to end at its next safe point: something failed in the background, or somebody asked it to stop."""

from __future__ import annotations

from typing import NoReturn

from ckpt.errors import Preempted


class Stopping:
    """Of one attempt. Told by signal handlers and background threads, asked by the job's thread."""

    def __init__(self, attention: list[str]) -> None:
        self._attention = attention
        self._failure: Exception | None = None
        self._signal: str | None = None

    @property
    def asked(self) -> bool:
        """Whether the run is to stop once its state is durable."""
        return self._signal is not None

    def ask(self, signal_name: str) -> None:
        """Called from a signal handler: stop at the next safe point."""
        self._signal = signal_name
        self._attention.append("stop")

    def postpone(self, error: Exception) -> None:
        """``error`` is raised at the next safe point that can raise; of several the first."""
        self._failure = self._failure or error
        self._attention.append("failure")

    def raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def end(self) -> NoReturn:
        """Preempted: the run was asked to stop, and is saved as far as it can be."""
        assert self._signal is not None
        raise Preempted(self._signal)
