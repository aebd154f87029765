"""Steps: calls whose results are recorded in the log and returned, not executed again, on a resume."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt import digests
from ckpt.capture.randomness import RandomState, random_marks, read_random_state, write_random_state
from ckpt.codecs.pickling import from_bytes, to_bytes
from ckpt.errors import IdentityError, UncapturableError, UnsupportedCodeError
from ckpt.format.records import Kind
from ckpt.session import current
from ckpt.session.callee import Callee, callee_of
from ckpt.session.node import Node
from ckpt.session.services import Services
from ckpt.session.steps import Recorded, identity_of, scope_of
from ckpt.session.track import Track
from ckpt.settings import check_step_options, is_coroutine_function

if TYPE_CHECKING:
    from ckpt.session.coroutines import AsyncOperations

OK, RAISED, _DREW, _DREW_AND_RAISED = b"\x00", b"\x01", b"\x02", b"\x03"
"""What an encoded result begins with: a value or an exception, by itself or with the generators that it moved on."""


@dataclass(frozen=True, slots=True)
class StepSpec:
    """How a step is to be called.

    ``retries`` further tries after an exception of ``retry_on``, the first after ``backoff`` seconds, doubling, with
    jitter. ``is_async``: a call gives something to ``await``. ``record_errors``: an exception that remains is recorded too, and raised again instead of a new try.
    """

    function: Callable[..., Any]
    name: str | None = None
    key: Any = None
    retries: int = 0
    backoff: float = 1.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    record_errors: bool = False
    is_async: bool = False

    @property
    def callee(self) -> Callee:
        """What a call is now: what a partial binds may have changed since the last one."""
        return callee_of(self.function, self.name, keyed=self.key is not None)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of a step. ``data`` is its recorded outcome, if there is one."""

    spec: StepSpec
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    argument_digest: bytes
    identity: bytes
    node: Node
    where: str
    began_s: float
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an operation that was executed, and its record."""

    outcome: bytes
    value: Any
    data: bytes

    def hand_out(self) -> Any:
        """The result; or its exception is raised."""
        if self.outcome == RAISED:
            raise self.value
        return self.value


class Operations:
    """Executes and records the steps of one run. Thread-safe."""

    def __init__(self, services: Services, track: Track, recorded: Recorded) -> None:
        self._services, self._track, self._recorded = services, track, recorded
        self.recorded = 0
        """Steps, and items of maps, that this attempt has recorded."""
        self.failed_items = 0
        """Those of them that failed, and are executed again on a resume."""
        self._durable = services.options.sync_interval_s == 0
        self._async: AsyncOperations | None = None

    def call(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The recorded result, or the result of executing the step now, which is recorded when this returns.

        For an async function: a coroutine for the same.
        """
        if spec.is_async:
            return self._asynchronously(spec, args, kwargs)
        operation = self.begin(spec, args, kwargs)
        if operation.data is not None:
            return replayed(operation.data)
        before = random_marks()
        outcome, value = self._execute(spec, operation.identity, args, kwargs)
        drew = read_random_state() if random_marks() != before else None
        done = self.encode(operation, outcome, value, drew)
        self.record(operation, done)
        return done.hand_out()

    def recorded_step(self, run: Any, function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
        """``function`` as a step of ``run``; plain inside another step, in a child process, and when the run is over."""
        spec = make_spec(function, options)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            if not run.alive or current.in_step() is not None:
                return current.called_plainly(function, args, kwargs)
            return self.call(spec, args, kwargs)

        return recorded

    def _asynchronously(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        if self._async is None:
            from ckpt.session.coroutines import AsyncOperations

            self._async = AsyncOperations(self)
        return self._async.call(spec, args, kwargs)

    def close(self) -> None:
        """End the threads that record async steps; what is being written is finished first."""
        if self._async is not None:
            self._async.close()

    def begin(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Operation:
        """Which operation a call of ``spec`` is now, and what is recorded of it."""
        callee = spec.callee
        argument_digest = self._argument_digest(spec, args, kwargs)
        with self._recorded.lock:
            node = self._track.active[-1]
            identity = identity_of(self._track.active, callee, argument_digest, in_order=current.in_order())
            where = scope_of(self._track.active)
        data = self._recorded.take(identity, node)
        began = self._services.clock.monotonic()
        return Operation(spec, args, kwargs, callee.name, argument_digest, identity, node, where, began, data)

    def encode(self, operation: Operation, outcome: bytes, value: Any, drew: RandomState | None) -> Done:
        """The record of what came of it; ``drew``: the generators, where the step has moved them on."""
        spec = operation.spec
        self._refuse_changed_arguments(spec, operation.args, operation.kwargs, operation.argument_digest)
        data = _encode(spec, outcome, value, drew)
        return Done(outcome, _as_replayed(spec, outcome, value, data), data)

    def record(self, operation: Operation, done: Done) -> None:
        """Durable on return (with ``sync="always"``). May be called from any thread."""
        head = {
            "id": operation.identity.hex(),
            "step": operation.name,
            "where": operation.where,
            "seconds": round(self._services.clock.monotonic() - operation.began_s, 6),
            "outcome": "ok" if done.outcome == OK else "error",
            "bytes": len(done.data),
        }
        self._recorded.add(operation.identity, done.data, operation.node)
        try:
            # Commit point of the step: its result is recorded.
            self._services.log.append(Kind.OPERATION, head, [done.data], durable=self._durable)
        except BaseException:
            self._recorded.remove(operation.identity, operation.node)
            raise
        self.recorded += 1

    def _argument_digest(self, spec: StepSpec, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        if spec.key is not None:
            return digests.digest(spec.key(*args, **kwargs) if callable(spec.key) else spec.key)
        try:
            return digests.digest_of_call(args, kwargs)
        except IdentityError as error:
            raise IdentityError(
                error.what, where=f"step {spec.callee.name}, {error.where}", fix="identify the call: ckpt.step(fn, key=...)"
            ) from error

    def pause_s(self, spec: StepSpec, attempt: int) -> float:
        """Seconds between try ``attempt`` (from 0) and the next one."""
        jitter = random.Random(self._services.entropy(8)).random()
        return float(spec.backoff * 2**attempt * (0.5 + jitter))

    def _execute(self, spec: StepSpec, identity: bytes, args: Any, kwargs: Any) -> tuple[bytes, Any]:
        outer = current.begin_try(identity)
        try:
            return OK, self._try(spec, identity, args, kwargs)
        except Exception as error:
            if not spec.record_errors:
                raise
            return RAISED, error
        finally:
            current.end_try(outer)

    def _try(self, spec: StepSpec, identity: bytes, args: Any, kwargs: Any) -> Any:
        for attempt in range(spec.retries):
            try:
                return spec.function(*args, **kwargs)
            except spec.retry_on:
                self._services.clock.sleep(self.pause_s(spec, attempt))
                current.begin_try(identity)
        return spec.function(*args, **kwargs)

    def _refuse_changed_arguments(self, spec: StepSpec, args: Any, kwargs: Any, before: bytes) -> None:
        """A replay returns the result and nothing else: what a step does to its arguments would be missing."""
        if spec.key is not None or digests.is_plain_call(args, kwargs):
            return
        if self._argument_digest(spec, args, kwargs) != before:
            raise UnsupportedCodeError(
                f"step {spec.callee.name} changed its arguments, which a replay of its result could not do",
                where=f"step {spec.callee.name}",
                fix="return what changes, and change it in the job (a copy of the argument: x = step(f)(x))",
            )


def replayed(data: bytes) -> Any:
    """What a recorded step gives: its value, or its exception raised, with the generators where it left them."""
    value = from_bytes(memoryview(data)[1:])
    if data[:1] in (_DREW, _DREW_AND_RAISED):
        value, state = value
        write_random_state(state)
    if data[:1] in (RAISED, _DREW_AND_RAISED):
        raise value
    return value


def _as_replayed(spec: StepSpec, outcome: bytes, value: Any, data: bytes) -> Any:
    """The result as a replay gives it: never an object that the step, or its caller, holds as well.

    Otherwise a change to the result would reach an argument or a cache the first time, and not after a resume.
    """
    if outcome == RAISED or type(value) in digests.IMMUTABLE:
        return value
    try:
        loaded = from_bytes(memoryview(data)[1:])
    except Exception as error:
        raise UncapturableError(
            f"a {type(value).__qualname__} was saved and cannot be loaded ({type(error).__name__}: {error})",
            where=f"result of step {spec.callee.name}",
            fix="return plain data from the step",
        ) from error
    return loaded[0] if data[:1] == _DREW else loaded


def _encode(spec: StepSpec, outcome: bytes, value: Any, drew: RandomState | None) -> bytes:
    """The record of a result. UncapturableError if it cannot be pickled; an exception that cannot come back is raised."""
    try:
        if outcome == RAISED:
            checked = _checked_error(value)
            return RAISED + checked if drew is None else _DREW_AND_RAISED + to_bytes((value, drew))
        return OK + to_bytes(value) if drew is None else _DREW + to_bytes((value, drew))
    except UncapturableError as error:
        raise UncapturableError(
            error.what, where=f"result of step {spec.callee.name}", fix="return plain data from the step"
        ) from error


def _checked_error(error: Any) -> bytes:
    data = to_bytes(error)
    try:
        from_bytes(data)
    except Exception:  # noqa: BLE001 - whatever its class raises: it cannot be recorded, so the step has simply failed
        raise error from None
    return data


def operation_key(address: str, identity: bytes) -> str:
    """32 hexadecimal digits, the same in every attempt at this operation of this run."""
    return hashlib.blake2b(address.encode() + b"\0" + identity, digest_size=16).hexdigest()


def make_spec(function: Any, options: dict[str, Any]) -> StepSpec:
    """The options of ``ckpt.step`` for ``function``. UnsupportedCodeError for what has no result to record."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise UnsupportedCodeError(
            f"step {function.__qualname__} is a generator function, which has no result to record",
            fix="make it a function (def or async def) that returns its result",
        )
    check_step_options(options)
    return StepSpec(function, is_async=is_coroutine_function(function), **options)
