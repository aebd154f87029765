"""``@ckpt.job``: a function whose calls are runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, Never, ParamSpec, TypeVar, overload

from ckpt import trial, triggers
from ckpt.errors import UnsupportedCodeError
from ckpt.jobs.marking import mark_async
from ckpt.jobs.pace import check_every
from ckpt.session import current
from ckpt.settings import Environment, Options, check_names, is_coroutine_function

_OPTIONS = {"name", "store", "every", "keep", "key", "on_code_change", "recreate", "sync", "progress",
            "mtbf", "memory_limit", "validate"}  # fmt: skip
_CALL_OPTIONS = {"run_id", "store", "every", "keep", "fresh", "wait", "expect_at_least"}

P = ParamSpec("P")
R = TypeVar("R")


class Job(Generic[P, R]):
    """A decorated function. Calling it runs it, resumes it, or returns its recorded result.

    Calling an ``async def`` gives a coroutine that does this when it is awaited.
    """

    def __init__(self, function: Callable[P, R], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        if is_coroutine_function(function):
            mark_async(self)
        self._options = options

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run, resume, or return the recorded result. Inside another job this is a plain call."""
        environment = Environment.read()
        if environment.disabled and not is_coroutine_function(self.__wrapped__):
            trial.watch(environment.trial)
            from ckpt.jobs.plain import plainly

            with plainly(self._options.name or default_name(self.__wrapped__)):
                return self.__wrapped__(*args, **kwargs)
        if environment.disabled or current.run_of_thread() is not None or current.in_step() is not None:
            return self.__wrapped__(*args, **kwargs)
        options = environment.apply(self._options)
        trial.watch(environment.trial)
        # A mistake is found before anything is taken over; one of the program's was found at its decoration.
        triggers.parse(options.every, "CKPT_EVERY" if self._options.every is None else "every")
        from ckpt.jobs import calling

        call: Any = calling.call_async if is_coroutine_function(self.__wrapped__) else calling.call
        result: R = call(self.__wrapped__, options, environment, (args, kwargs))
        return result

    def options(  # noqa: PLR0913 - each is one decision about a call
        self,
        *,
        run_id: str | None = None,
        store: Any = None,
        every: Any = None,
        keep: int | None = None,
        fresh: bool = False,
        wait: float | None = None,
        expect_at_least: str | None = None,
        **unknown: Never,
    ) -> Job[P, R]:
        """The same job with other options for the calls made through it.

        ``run_id`` names the run instead of the digest of its arguments, which then have to stay the same
        (ArgumentsChangedError, unless ``key`` is a function); ``fresh=True`` forgets what was recorded of the
        run and starts again; ``wait`` seconds for a live attempt to end before RunBusyError; ``expect_at_least`` a
        position of the run's log that was seen before ("42.7"): RolledBackError if the log now ends earlier.
        """
        check_names(unknown, _CALL_OPTIONS, "options()")
        if every is not None:
            triggers.parse(every)
        changed = self._options.changed(
            run_id=run_id, store=store, every=every, keep=keep, fresh=fresh or None, wait=wait,
            expect_at_least=expect_at_least,
        )
        return Job(self.__wrapped__, changed)

    def address(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """``"job/run_id"`` of the run that a call with these arguments is. IdentityError if they have no digest."""
        from ckpt.jobs.calling import names_of

        return names_of(self.__wrapped__, Environment.read().apply(self._options), (args, kwargs)).address

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundJob(self, instance)

    def __reduce__(self) -> str:
        return self.__wrapped__.__qualname__

    def __repr__(self) -> str:
        return f"<ckpt.job {self.__wrapped__.__module__}.{self.__wrapped__.__qualname__}>"


class BoundJob:
    """A job that is a method, bound to its object."""

    def __init__(self, job: Job[Any, Any], instance: Any) -> None:
        self._job, self._instance = job, instance
        self.__wrapped__ = functools.partial(job.__wrapped__, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._job(self._instance, *args, **kwargs)

    def options(self, **given: Any) -> BoundJob:
        """See ``Job.options``."""
        return BoundJob(self._job.options(**given), self._instance)

    def address(self, *args: Any, **kwargs: Any) -> str:
        """See ``Job.address``."""
        return self._job.address(self._instance, *args, **kwargs)


def default_name(function: Callable[..., Any]) -> str:
    """Module (a script's stem for ``__main__``) and qualified name: two scripts in one folder do not meet in a store."""
    from ckpt.digests.canonical import qualified_name

    return qualified_name(function)


@overload
def job(function: Callable[P, R], /) -> Job[P, R]: ...


@overload
def job(
    *,
    name: str | None = None,
    store: Any = None,
    every: Any = None,
    keep: int = 2,
    key: Callable[..., object] | str | None = None,
    on_code_change: str = "warn",
    recreate: tuple[str, ...] = (),
    sync: str = "always",
    progress: bool | None = None,
    mtbf: str | float | None = None,
    memory_limit: str | int | None = None,
    validate: bool = False,
) -> Callable[[Callable[P, R]], Job[P, R]]: ...


def job(function: Any = None, /, **options: Any) -> Any:
    """Make a function (``def`` or ``async def``) resumable: killed at any moment and called again, it goes on where it was.

    ``name``: default module and qualified name. ``store``: a path, URL or ``ckpt.Store`` (default CKPT_STORE, or
    ``.ckpt``). ``every``: when to take checkpoints (default CKPT_EVERY, or ``"1%"``): ``"1%"`` of the time at most,
    ``"30s"``, ``"1000it"``, triggers joined with ``|``, or ``"auto"``: the interval that loses least with a failure every
    ``mtbf`` ("6h", default: as often as this run failed so far). A share of the time leaves at most 30 minutes of work at risk,
    as long as checkpoints take less than a tenth of the time for that. ``keep``: how many checkpoints stay. ``key``: the run's id, or
    a function of the arguments that gives something to digest, for arguments without a stable digest; under a text they
    have to stay the same. ``on_code_change``: "resume", "warn", "fail" or "fresh". ``recreate``: variables that the code makes again by itself (clients, connections). ``sync``: "always", or
    "interval:1s" to let recorded steps be volatile for that long. ``memory_limit`` ("2GiB"): what copies of the state may
    take; a larger state is stored while the job waits. ``validate=True``: each snapshot is read back and compared before
    a checkpoint names it, which takes as much memory again as the state.

    Raises UnsupportedCodeError at once for code that cannot be resumed exactly, with the line and the fix.
    """
    check_names(options, _OPTIONS, "@ckpt.job")
    chosen = Options(**options)
    check_every(chosen.every, chosen.mtbf)  # a mistake is found here, and not in the first run
    if function is None:
        return lambda decorated: _decorate(decorated, chosen)
    return _decorate(function, chosen)


def _decorate(function: Any, options: Options) -> Job[Any, Any]:
    import inspect

    if not inspect.isfunction(function):
        raise UnsupportedCodeError(
            f"@ckpt.job got a {type(function).__name__}", fix="put it directly on a def, below other decorators"
        )
    if function.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        raise UnsupportedCodeError(
            f"job {function.__qualname__} is a generator function",
            where=f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}",
            fix="make it a function (def or async def) that returns its result",
        )
    from ckpt.capture import sites

    sites.check_job(function)
    return Job(function, options)


