"""Commands for keys: ``ckpt key new``, ``rotate`` and ``ls``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ckpt import host, keyfile
from ckpt.cli.common import PROBLEM, clean_errors, console, json_option, print_json, store_options
from ckpt.cli.render import print_findings
from ckpt.format.keys import Key
from ckpt.store import Store


@click.group()
def key() -> None:
    """Keys: make one, replace one, see which are needed.

    CKPT_KEY is one key, several with commas between them, or the path of a file with one a line. The first one signs,
    all verify.
    """


@key.command()
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, for its owner only.")
@clean_errors
def new(out: Path | None) -> None:
    """Make a key. It is printed, or with --out written to a new file (mode 0600), and its public id printed."""
    made = Key.generate(host.entropy)
    if out is None:
        click.echo(made.to_text())
        return
    keyfile.write_new(out, made)
    click.echo(f"key {made.id} is in {out}. Keep a copy elsewhere: without it nothing can be read")


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@clean_errors
def rotate(file: Path) -> None:
    """Put a new key in front of those in FILE: it signs from now on, and the old ones still verify.

    FILE is that of CKPT_KEY, or the `key` file of a local store. When `ckpt key ls` says that no run needs the last
    line of it any more, take that line out.
    """
    rotated = keyfile.rotate(file, host.entropy)
    click.echo(f"key {rotated.id} signs from now on; {', '.join(old.id for old in rotated.older)} still verify")


@key.command()
@json_option
@store_options
@clean_errors
def ls(store: Store, as_json: bool) -> None:
    """List the keys that are at hand, by id, and how many runs of the store need each. Shows no secret.

    Status 1 if there are runs that cannot be read: their keys are not known, or are named as missing.
    """
    uses, problems = store.keys()
    if as_json:
        print_json(uses)
    else:
        for use in uses:
            click.echo(f"{use.id}  {'signs   ' if use.signs else 'verifies'}  {use.runs} run{'s' * (use.runs != 1)}")
    print_findings(console(stderr=True), problems)
    sys.exit(PROBLEM if problems else 0)
