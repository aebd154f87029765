"""One call of a job: which run it is, and its attempt from entry to result."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

from ckpt import digests
from ckpt.capture import fingerprint
from ckpt.capture.visible import Visible
from ckpt.errors import IdentityError
from ckpt.format.names import RunNames, is_run_id
from ckpt.jobs.job import default_name
from ckpt.session import current
from ckpt.session.attempt import Attempt, Finished, open_attempt
from ckpt.session.items import short_text
from ckpt.session.plan import Plan
from ckpt.settings import Environment, Options

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def names_of(function: Callable[..., Any], options: Options, arguments: Arguments) -> RunNames:
    """The names of the run that this call is."""
    job = options.name or default_name(function)
    return RunNames(job, options.run_id or _identify(function, options, _bind(function, arguments))[0])


def _bind(function: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    bound = inspect.signature(function).bind(*arguments[0], **arguments[1])
    bound.apply_defaults()
    return dict(bound.arguments)


def _identify(function: Callable[..., Any], options: Options, bound: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """The run's id (``run_id``, or what ``key`` says, or 16 digits of the arguments' digest), and digests of arguments.

    The digests are those that each attempt of the run has to have: empty where the id is made of the arguments, or where
    a function ``key`` says which ones count. An argument without a stable digest is left out.
    """
    key = options.key
    if callable(key):
        return options.run_id or _name_by_arguments(function, key, bound), {}
    name = options.run_id or key
    if name is None:
        return _name_by_arguments(function, None, bound), {}
    run_id = name if options.run_id or is_run_id(name) else hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return run_id, _digests(bound)


def _name_by_arguments(function: Callable[..., Any], key: Any, bound: dict[str, Any]) -> str:
    """The id of a run that is given none. IdentityError."""
    if not callable(key):
        return _digest(function, bound)[:16]
    return _digest(function, key(**bound) if not _has_variadic(function) else key(*bound.values()))[:16]


def _digests(bound: dict[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in bound.items():
        try:
            found[name] = digests.digest(value).hex()[:32]
        except IdentityError:
            continue  # said to be so: such an argument is not compared
    return found


def _digest(function: Callable[..., Any], subject: Any) -> str:
    try:
        return digests.digest(subject).hex()
    except IdentityError as error:
        raise IdentityError(
            error.what,
            where=f"argument of {function.__qualname__}: {error.where}",
            fix="say what identifies the run: @ckpt.job(key=lambda ...: ...) or key=\"name\"",
        ) from error


def _has_variadic(function: Callable[..., Any]) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
    return bool(kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})


def call(function: Callable[..., Any], options: Options, environment: Environment, arguments: Arguments) -> Any:
    """Run, resume, or return the recorded result."""
    bound = _bind(function, arguments)
    plan = _plan(function, options, environment, bound)
    current.refuse_second(plan.names.address)
    opened = open_attempt(plan)
    if isinstance(opened, Finished):
        return _result(opened, _outside(function, bound))
    return _attempt(opened, function, arguments, _outside(function, bound))


async def call_async(
    function: Callable[..., Any], options: Options, environment: Environment, arguments: Arguments
) -> Any:
    """The same for a coroutine function. The run is opened in a thread: that may have to wait for another attempt."""
    from ckpt.session import coroutines

    bound = _bind(function, arguments)
    plan = _plan(function, options, environment, bound)
    with current.alone(plan.names.address):
        opened = await coroutines.opened(plan)
        if isinstance(opened, Finished):
            return _result(opened, _outside(function, bound))
        with opened.running() as run:
            for name, value in _outside(function, bound):
                run.add_visible(name, value)
            run.begin()
            result = await coroutines.call(run, function, *arguments)
            if run.alive:
                run.finish(result)
            return result


def _plan(function: Callable[..., Any], options: Options, environment: Environment, bound: dict[str, Any]) -> Plan:
    run_id, argument_digests = _identify(function, options, bound)
    job = options.name or default_name(function)
    fork = environment.fork_of(job, run_id)
    by_arguments = not options.run_id and not isinstance(options.key, str)
    return Plan(
        names=RunNames(job, fork or run_id),
        instead_of=f"{job}/{run_id}" if fork else "",
        options=options,
        environment=environment,
        code=fingerprint.fingerprint(function),
        arguments=", ".join(f"{name}={short_text(value)}" for name, value in bound.items()),
        argument_digests=argument_digests,
        captures_locals=True,
        identify=lambda: run_id if by_arguments else _name_by_arguments(function, options.key, bound),
    )


def _result(finished: Finished, outside: list[tuple[str, Any]]) -> Any:
    visible = Visible()
    for name, value in outside:
        visible.add(value, name)
    return finished.result(visible)


def _outside(function: Callable[..., Any], bound: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the caller can see: the arguments, and the variables of enclosing functions."""
    found = list(bound.items())
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:
            continue  # not bound yet: nothing that the caller could see
    return found


def _attempt(
    attempt: Attempt, function: Callable[..., Any], arguments: Arguments, outside: list[tuple[str, Any]]
) -> Any:
    with attempt.running() as run:
        if attempt.plan.is_named_by_arguments and run.attempt == 1:
            from ckpt.jobs.unfinished import say_unfinished  # only where a run is new

            say_unfinished(attempt.root, attempt.plan.names, attempt.plan.arguments)
        for name, value in outside:
            run.add_visible(name, value)
        run.begin()
        result = run.call(function, *arguments)
        if run.alive:
            run.finish(result)
        return result


