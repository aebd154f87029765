"""``with ckpt.open("name") as run:``: a named run around any block of code."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from ckpt import events, trial, triggers
from ckpt.errors import CkptError, OptionError
from ckpt.jobs.pace import check_every
from ckpt.session import current
from ckpt.settings import Environment, Options, check_names

if TYPE_CHECKING:
    from ckpt.jobs.plain import PlainRun
    from ckpt.session.attempt import Attempt
    from ckpt.session.run import Run


_AFRESH = r"(?:start |run it |start the run )?(?:afresh: )?(?:f\.options\()?fresh=True(?:\)\(\.\.\.\))?(?: \(of a with block: ckpt rm\))?"
"""What fixes say of starting a job afresh."""


class OpenRun:
    """The context manager behind ``ckpt.open``. Entering takes the lease and recovers; leaving records the end."""

    def __init__(self, name: str, options: Options) -> None:
        self._name, self._options = name, options
        self._block: AbstractContextManager[Run] | None = None

    def __enter__(self) -> Run | PlainRun:
        if current.run_of_thread() is not None:
            raise OptionError(
                f"ckpt.open({self._name!r}) inside another run", fix="use ckpt.current_run(), or open it outside the job"
            )
        environment = Environment.read()
        if environment.disabled:
            trial.watch(environment.trial)
            from ckpt.jobs.plain import PlainRun

            events.emit("entered")
            return PlainRun(self._name, self._options.run_id or "default")
        current.refuse_second(f"{self._name}/{self._options.run_id or 'default'}")
        from ckpt.format.names import RunNames
        from ckpt.session.attempt import Attempt, open_attempt
        from ckpt.session.plan import Plan

        options = environment.apply(self._options)
        trial.watch(environment.trial)
        triggers.parse(options.every, "CKPT_EVERY" if self._options.every is None else "every")
        called = RunNames(self._name, options.run_id or "default")
        fork = environment.fork_of(self._name, called.run_id)
        names = RunNames(self._name, fork or called.run_id)
        instead_of = called.address if fork else ""
        with _fixes_of_a_block(names.address):
            attempt = open_attempt(
                Plan(names, options, environment, {}, "", {}, captures_locals=False, instead_of=instead_of)
            )
            assert isinstance(attempt, Attempt)
            block = _running(attempt)
            run = block.__enter__()
        self._block = block
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(kind, error, trace)


@contextmanager
def _fixes_of_a_block(address: str) -> Iterator[None]:
    """A block has no ``fresh=True``: what an error says of it is said of ``ckpt rm``."""
    try:
        yield
    except CkptError as error:
        error.fix = re.sub(_AFRESH, f"start afresh: ckpt rm {address}", error.fix)
        raise


@contextmanager
def _running(attempt: Attempt) -> Iterator[Run]:
    with _fixes_of_a_block(attempt.plan.names.address), attempt.running() as run:
        run.begin()
        yield run
        if run.alive:  # not in a forked child that leaves the block
            run.finish_block()


class Durability(TypedDict, total=False):
    """What of a run is durable when: see ``ckpt.open``."""

    sync: str
    expect_at_least: str | None
    mtbf: str | float | None
    memory_limit: str | int | None
    validate: bool


_OPTIONS = ("run_id", "store", "every", "keep", *Durability.__optional_keys__)


def open_run(
    name: str,
    run_id: str | None = None,
    store: Any = None,
    every: Any = None,
    keep: int = 2,
    **durability: Unpack[Durability],
) -> OpenRun:
    """A named run around a ``with`` block: state that is asked for (``run.state``, and logged objects: ``run.dict``,
    ``run.list``, ``run.counter``, ``run.logged``), marked loops, steps, checkpoints.

    ``run_id`` tells several runs of the same name apart (default ``"default"``). The block's local variables are not
    captured: what has to come back lives in ``run.state(...)`` or in logged objects. ``sync="interval:1s"``: steps, and
    iterations that changed logged objects, may be lost for that long; ``"always"`` (the default): they are durable when the
    next item is handed out. ``expect_at_least``: a ``run.log_position`` that was seen
    before; RolledBackError if the log now ends earlier. ``mtbf``, ``memory_limit``, ``validate``: as for ``ckpt.job``. Entering raises RunBusyError, IntegrityError or StorageError; leaving the block normally records the run as finished, durably.
    """
    check_every(every, durability.get("mtbf"))  # a mistake is found here, before anything is opened
    check_names(durability, _OPTIONS, "ckpt.open")
    return OpenRun(name, Options(run_id=run_id, store=store, every=every, keep=keep, **durability))


open_run.__ckpt_marker__ = "run"  # type: ignore[attr-defined]
