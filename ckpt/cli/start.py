"""Commands that start jobs: ``run`` supervises one, ``resume`` starts again what a run recorded."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ckpt.cli.common import BUSY, address_argument, clean_errors, store_options
from ckpt.errors import OptionError, RunNotFoundError
from ckpt.host import SystemClock
from ckpt.settings import DEFAULT_STORE, parse_duration
from ckpt.store import Store
from ckpt.supervisor import Patience, Supervisor


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--restarts", type=click.IntRange(min=0), default=10, show_default=True, metavar="N")
@click.option("--backoff", default="1s..60s", show_default=True, metavar="MIN..MAX", help="Wait between two attempts.")
@click.option("--hang-timeout", metavar="T", help="Kill and restart a job that shows no safe point for T (10m, say).")
@click.option("--store", "url", metavar="URL", help="Where the job's runs live (sets CKPT_STORE for it).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@clean_errors
def run(restarts: int, backoff: str, hang_timeout: str | None, url: str | None, command: tuple[str, ...]) -> None:
    """Run a job and start it again when it crashes or is preempted.

    Gives up after N restarts in a row that made no progress, with the job's last status. A status of 2, 126 or 127 (a
    wrong command line) is not tried again. SIGTERM, SIGINT and SIGHUP are passed on to the job, and then it is not
    started again; SIGUSR1 is passed on too.
    """
    low_s, high_s = _backoff(backoff)
    patience = Patience(
        restarts=restarts,
        backoff_min_s=low_s,
        backoff_max_s=high_s,
        hang_timeout_s=None if hang_timeout is None else parse_duration(hang_timeout),
    )
    environ = dict(os.environ) if url is None else {**os.environ, "CKPT_STORE": url}
    supervisor = Supervisor(command, patience, clock=SystemClock(), say=_say, environ=environ)
    sys.exit(supervisor.run())


def _say(line: str) -> None:
    click.echo(f"ckpt run: {line}", err=True)


def _backoff(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    if not dots:
        raise OptionError(f"{text!r} is not a pair of durations", where="--backoff", fix="write it as 1s..60s")
    return parse_duration(low), parse_duration(high)


@click.command()
@address_argument
@store_options
@clean_errors
def resume(store: Store, address: str) -> None:
    """Start a run again as it was started before: the same command, in the same folder, on this store.

    This process becomes the job, so its exit status is the job's.
    """
    info = store.open(address)
    address, newest = info.summary.address, info.newest
    if info.summary.status == "finished":
        click.echo(f"{address} is finished; its result is recorded")
        return
    if info.alive and newest is not None:
        click.echo(f"ckpt: {address} is running (on {newest.host}, pid {newest.pid}); nothing to resume", err=True)
        sys.exit(BUSY)
    if newest is None or not newest.command:
        run_id = address.rpartition("/")[2]
        fix = f"start the job itself, by f.options(run_id={run_id!r})(...) or ckpt.open(..., run_id={run_id!r})"
        raise RunNotFoundError("no attempt recorded how it was started", where=address, fix=fix)
    if not os.path.isdir(newest.cwd):
        fix = "make it again, or start the job itself from where its files are now"
        raise OptionError(f"the run's folder is gone: {newest.cwd}", where=address, fix=fix)
    environ = _environ_for(store, newest.cwd)
    if newest.instead_of:
        environ["CKPT_FORK"] = f"{newest.instead_of}={address.rpartition('/')[2]}"
    if _is_programless(newest.command):
        sets = "".join(f" with {name}={environ[name]}" for name in ("CKPT_STORE", "CKPT_FORK") if name in environ)
        fix = (
            f"in {newest.cwd}, give the same program to Python as before{sets}, and the run goes on; "
            "ckpt resume can start a program again that is in a file, or behind python -c"
        )
        raise OptionError("its program came from standard input, or was typed in, and is gone", where=address, fix=fix)
    click.echo(f"ckpt: resuming {address}: {shlex.join(newest.command)} (in {newest.cwd})", err=True)
    _become(newest.command, newest.cwd, environ)


_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]*(\.exe)?")
_WITH_VALUE = "WX"
"""Options of Python that take a value, which may be the next word."""
_ENDS_OPTIONS = "cm"
"""Those that are followed by the program, or its name."""
_STREAM = re.compile(r"/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+")


def _is_programless(command: Sequence[str]) -> bool:
    """Whether the words start a Python that reads its program from a stream, which does not have it any more."""
    interpreter, *words = command
    if not _PYTHON.fullmatch(os.path.basename(interpreter)):
        return False  # a program that has Python in it
    while words:
        word = words.pop(0)
        if word == "-" or not word.startswith("-"):
            return word == "-" or bool(_STREAM.fullmatch(word))
        if word == "--check-hash-based-pycs":
            words = words[1:]
        letters = "" if word.startswith("--") else word[1:]
        takes = next((letter for letter in letters if letter in _WITH_VALUE + _ENDS_OPTIONS), "")
        if takes and takes in _ENDS_OPTIONS:
            return False
        if takes and letters.index(takes) == len(letters) - 1:
            words = words[1:]
    return True


def _environ_for(store: Store, cwd: str) -> dict[str, str]:
    """This environment, with ``CKPT_STORE`` naming the store unless it is the one that the job takes by default."""
    environ = {name: value for name, value in os.environ.items() if name not in ("CKPT_STORE", "CKPT_FORK")}
    default = Path(os.path.abspath(os.path.join(cwd, DEFAULT_STORE)))
    if os.path.realpath(store.url) != os.path.realpath(default):
        environ["CKPT_STORE"] = store.url
    return environ


def _become(command: tuple[str, ...], cwd: str, environ: Mapping[str, str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(cwd)
    try:
        os.execvpe(command[0], command, environ)
    except OSError as error:
        fix = "install it again, or start the job itself with another interpreter"
        raise OptionError(f"cannot start it: {error.strerror}", where=command[0], fix=fix) from error
