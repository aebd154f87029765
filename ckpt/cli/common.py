"""What all commands share: the store they look at, errors as clean messages, exit statuses, output."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from ckpt.errors import CkptError, IntegrityError, OptionError, RunBusyError, RunNotFoundError, UsageError
from ckpt.store import Store

if TYPE_CHECKING:
    from rich.console import Console

PROBLEM, USAGE, BUSY, CORRUPT = 1, 2, 3, 4

PIPE_WIDTH = 10_000
"""Columns where nobody looks at the width: nothing is cut or folded in a pipe."""

P = ParamSpec("P")
R = TypeVar("R")


def exit_status(error: CkptError) -> int:
    """The exit status for ``error``."""
    if isinstance(error, RunBusyError):
        return BUSY
    if isinstance(error, IntegrityError):
        return CORRUPT
    return USAGE if isinstance(error, UsageError | RunNotFoundError) else PROBLEM


def clean_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Show each CkptError that leaves ``function`` as a message, never as a traceback."""

    @functools.wraps(function)
    def shown(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except CkptError as error:
            click.echo(f"ckpt: {error}", err=True)
            sys.exit(exit_status(error))

    return shown


def store_options(function: Callable[..., R]) -> Callable[..., R]:
    """Add ``--store`` and ``--unsigned``; the function gets ``store``, opened when it is first used."""

    @click.option("--store", "url", metavar="URL", help="The store; default: CKPT_STORE, or .ckpt in this folder.")
    @click.option("--unsigned", is_flag=True, help="Trust a shared store that has no key.")
    @functools.wraps(function)
    def with_store(*args: Any, url: str | None, unsigned: bool, **kwargs: Any) -> R:
        return function(*args, store=Store(url, unsigned=unsigned), **kwargs)

    return with_store


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


expect_option = click.option(
    "--expect-at-least",
    metavar="POSITION",
    help="Refuse a log that ends before this position (log_position of an earlier `ckpt show --json`).",
)


def print_json(value: object) -> None:
    """One JSON document for ``value``: dataclasses, or lists of them."""
    click.echo(json.dumps(_plain(value), indent=2))


def print_json_line(value: object) -> None:
    """``value`` as one line of JSON."""
    click.echo(json.dumps(_plain(value)))


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def console(*, stderr: bool = False) -> Console:
    """Where tables go. In a pipe: no colours and no limit of width."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty()
    return Console(stderr=stderr, highlight=False, soft_wrap=False, width=PIPE_WIDTH if piped else None)


def confirm(question: str) -> None:
    """Go on only if the answer is yes; without anybody there to answer say how to go on without being asked."""
    try:
        yes = click.confirm(question)
    except click.Abort:  # no answer
        if sys.stdin.isatty():
            raise  # Ctrl-C, or Ctrl-D
        click.echo(err=True)
        where = click.get_current_context().command_path
        fix = "say --yes (-y) if you mean it"
        raise OptionError("there is nobody to answer, so nothing was changed", where=where, fix=fix) from None
    if not yes:
        raise click.Abort


def complete_address(context: click.Context, parameter: click.Parameter, beginning: str) -> Iterable[str]:
    """Addresses for the shell's completion."""
    store = Store(context.params.get("url"), unsigned=bool(context.params.get("unsigned")))
    try:
        return [address for address in store.addresses() if address.startswith(beginning)]
    except CkptError:  # completing is no place for messages
        return []


address_argument = click.argument("address", shell_complete=complete_address)
