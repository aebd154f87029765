"""Commands for another way from an old checkpoint: ``fork``, ``reset``, ``diff``."""

from __future__ import annotations

import sys

import click

from ckpt.cli.common import (
    PROBLEM,
    address_argument,
    clean_errors,
    complete_address,
    confirm,
    json_option,
    print_json,
    store_options,
)
from ckpt.cli.render import diff_lines, size_text
from ckpt.store import Store


@click.command()
@address_argument
@click.option("--at", type=int, metavar="CHECKPOINT", help="The number of the checkpoint; default: the newest.")
@click.option("--as", "run_id", metavar="RUN_ID", help="The new run's id; default: made of the origin's.")
@json_option
@store_options
@clean_errors
def fork(store: Store, address: str, at: int | None, run_id: str | None, as_json: bool) -> None:
    """Make a new run that starts from an old checkpoint. The origin stays as it is, and may be alive.

    To go on with it: ckpt resume, or the job under its id: f.options(run_id="...")(...); ckpt.open(name, run_id="...").
    """
    made = store.fork(address, at=at, run_id=run_id)
    if as_json:
        print_json(made)
    else:
        job, _, run_id = made.address.rpartition("/")
        call = f"ckpt.open({job!r}, run_id={run_id!r})" if made.is_block else f"f.options(run_id={run_id!r})(...)"
        resume = f"ckpt resume {made.address}, or " if made.resumable else ""
        click.echo(f"{made.address} starts from checkpoint {made.checkpoint} ({size_text(made.stored_nbytes)} copied)")
        click.echo(f"go on with it: {resume}{call}", err=True)


@click.command()
@address_argument
@click.option("--to", type=int, metavar="CHECKPOINT", required=True, help="The number of the checkpoint.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_options
@clean_errors
def reset(store: Store, address: str, to: int, yes: bool) -> None:
    """Take a run back to an old checkpoint; it goes on there when it is started again. A live run is refused.

    What came after does not count any more: steps that were recorded since are executed again.
    """
    whole = store.find(address)
    store.check_reset(whole, to=to)  # before anybody is asked
    if not yes:
        confirm(f"take {whole} back to checkpoint {to}?")
    number = store.reset(whole, to=to)
    click.echo(f"{whole} goes on from checkpoint {to} (as checkpoint {number})")


@click.command()
@click.argument("a", shell_complete=complete_address)
@click.argument("b", shell_complete=complete_address)
@json_option
@store_options
@clean_errors
def diff(store: Store, a: str, b: str, as_json: bool) -> None:
    """Say what differs between two checkpoints: ADDRESS (its newest) or ADDRESS@CHECKPOINT. Status 1 if anything does.

    Names and sizes only: nothing is unpickled.
    """
    found = store.diff(a, b)
    if as_json:
        print_json(found)
    else:
        for line in diff_lines(found):
            click.echo(line)
    sys.exit(PROBLEM if found.only_a_nbytes or found.only_b_nbytes or found.entries else 0)
