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
from ckpt.session.attempt import Attempt, Finished, Plan, open_attempt
from ckpt.session.items import short_text
from ckpt.settings import Environment, Options

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def names_of(function: Callable[..., Any], options: Options, arguments: Arguments) -> RunNames:
    """The names of the run that this call is."""
    job = options.name or default_name(function)
    return RunNames(job, options.run_id or _run_id(function, options, _bind(function, arguments)))


def _bind(function: Callable[..., Any], arguments: Arguments) -> dict[str, Any]:
    bound = inspect.signature(function).bind(*arguments[0], **arguments[1])
    bound.apply_defaults()
    return dict(bound.arguments)


def _run_id(function: Callable[..., Any], options: Options, bound: dict[str, Any]) -> str:
    """16 hexadecimal digits of the arguments' digest, or of what ``key`` says."""
    key = options.key
    if isinstance(key, str):
        if is_run_id(key):
            return key
        return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
    subject: Any = bound
    if callable(key):
        subject = key(**bound) if not _has_variadic(function) else key(*bound.values())
    try:
        return digests.digest(subject).hex()[:16]
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
    job = options.name or default_name(function)
    plan = Plan(
        names=RunNames(job, options.run_id or _run_id(function, options, bound)),
        options=options,
        environment=environment,
        code=fingerprint.fingerprint(function),
        arguments=", ".join(f"{name}={short_text(value)}" for name, value in bound.items()),
        captures_locals=True,
    )
    opened = open_attempt(plan)
    if isinstance(opened, Finished):
        visible = Visible()
        for name, value in _outside(function, bound):
            visible.add(value, name)
        return opened.result(visible)
    return _attempt(opened, function, arguments, _outside(function, bound))


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
        for name, value in outside:
            run.add_visible(name, value)
        run.begin()
        result = run.call(function, *arguments)
        if run.alive:
            run.finish(result)
        return result


