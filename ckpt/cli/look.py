"""Commands that only look: ``ls``, ``show``, ``log``."""

from __future__ import annotations

import sys

import click

from ckpt.cli.common import (
    CORRUPT,
    address_argument,
    clean_errors,
    console,
    expect_option,
    json_option,
    print_json,
    print_json_line,
    store_options,
)
from ckpt.cli.render import entry_text, letter_lines, print_run, runs_lines, runs_table
from ckpt.host import SystemClock
from ckpt.store import Entry, Store

POLL_S = 0.5


@click.command()
@json_option
@store_options
@clean_errors
def ls(store: Store, as_json: bool) -> None:
    """List the runs of the store. Status 4 if one was signed with a key that is not at hand."""
    runs = store.list()
    if as_json:
        print_json(runs)
    elif not runs:
        click.echo(f"no runs in {store.url}")
    elif (out := console()).is_terminal:
        out.print(runs_table(runs, SystemClock().now(), out.width))
    else:
        click.echo("\n".join(runs_lines(runs, SystemClock().now())))
    sys.exit(CORRUPT if any(run.status == "other key" for run in runs) else 0)


@click.command()
@address_argument
@expect_option
@json_option
@store_options
@clean_errors
def show(store: Store, address: str, expect_at_least: str | None, as_json: bool) -> None:
    """Show one run: attempts, checkpoints, sizes, time in checkpoints, state, result."""
    info = store.open(address, expect_at_least=expect_at_least)
    if as_json:
        print_json(info)
    else:
        print_run(console(), info, SystemClock().now())


@click.command()
@address_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with what is added, until the run is finished or Ctrl-C.")
@json_option
@store_options
@clean_errors
def log(store: Store, address: str, follow: bool, as_json: bool) -> None:
    """List the records of a run's log; with --json one JSON object a line."""
    clock = SystemClock()
    finished = False
    for batch in store.follow(address) if follow else [store.records(address)]:
        for entry in batch:
            print_json_line(entry) if as_json else click.echo(entry_text(entry))
        finished = _finished(batch, before=finished)
        if finished:
            return
        if follow:
            clock.sleep(POLL_S)


@click.command()
@address_argument
@json_option
@store_options
@clean_errors
def failed(store: Store, address: str, as_json: bool) -> None:
    """List the items of a run's maps that failed: what, why, after how many attempts. See `ckpt retry`."""
    letters = store.failed(address)
    if as_json:
        print_json(letters)
    elif not letters:
        click.echo("no failed items")
    else:
        click.echo("\n".join(letter_lines(letters, SystemClock().now())))


def _finished(batch: list[Entry], *, before: bool) -> bool:
    """Whether the run is finished after ``batch``: said so, and no attempt began later."""
    finished = before
    for entry in batch:
        if entry.kind == "fence":
            finished = False
        elif entry.kind == "status":
            finished = entry.head.get("status") == "finished"
    return finished
