"""Commands that check, mend and clean up: ``verify``, ``repair``, ``rm``, ``sweep``."""

from __future__ import annotations

import sys

import click

from ckpt.cli.common import (
    CORRUPT,
    PROBLEM,
    address_argument,
    clean_errors,
    complete_address,
    confirm,
    console,
    expect_option,
    json_option,
    print_json,
    store_options,
)
from ckpt.cli.render import print_findings, repair_lines, size_text
from ckpt.errors import OptionError, RunBusyError
from ckpt.settings import parse_duration
from ckpt.store import Store


@click.command()
@click.argument("address", required=False, shell_complete=complete_address)
@expect_option
@json_option
@store_options
@clean_errors
def verify(store: Store, address: str | None, expect_at_least: str | None, as_json: bool) -> None:
    """Read and verify every byte that a resume could need, of one run or of all. Status 1 if there is a problem, 4 if
    a run was signed with a key that is not at hand.

    A torn end of a log and packs that nothing names are notes: they cost space at most.
    """
    findings = store.verify(address, expect_at_least=expect_at_least)
    problems = sum(finding.serious for finding in findings)
    if as_json:
        print_json(findings)
    else:
        print_findings(console(), findings)
        count = 1 if address is not None else len(store.addresses())
        result = f"{problems} problem{'s' * (problems != 1)}" if problems else "all good"
        click.echo(f"{count} run{'s' * (count != 1)} verified: {result}")
    if any(finding.other_key for finding in findings):
        sys.exit(CORRUPT)
    sys.exit(PROBLEM if problems else 0)


@click.command()
@address_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be saved and what would be lost.")
@click.option("--accept-loss", is_flag=True, help="Give up what was recorded behind the damage.")
@click.option("--start-over", is_flag=True, help="Let the run begin at its beginning, if nothing else is left.")
@json_option
@store_options
@clean_errors
def repair(
    store: Store, address: str, dry_run: bool, accept_loss: bool, start_over: bool, as_json: bool
) -> None:
    """Save what can be saved of a damaged run. The originals are kept in its damaged/ folder, every loss is named.

    The run then goes on at the newest result or checkpoint that verifies, with what was recorded up to the first damage.
    Without --accept-loss or --start-over nothing that was acknowledged is given up. Status 1 if that is asked for, and
    with --dry-run if there is anything to repair.
    """
    done = store.repair(address, dry_run=dry_run, accept_loss=accept_loss, start_over=start_over)
    if as_json:
        print_json(done)
    else:
        for line in repair_lines(done):
            click.echo(line)
    sys.exit(PROBLEM if done.found and not done.done else 0)


@click.command()
@address_argument
@click.option("--failed", is_flag=True, required=True, help="The items of maps that failed (see `ckpt failed`).")
@json_option
@store_options
@clean_errors
def retry(store: Store, address: str, failed: bool, as_json: bool) -> None:
    """Mark failed items, so that the next run of the job executes them again, and only them. A live run is refused.

    A finished run is reopened: start the job again as before, and it goes on from its newest checkpoint.
    """
    done = store.retry(address)
    if as_json:
        print_json(done)
    elif not done.items:
        click.echo(f"{done.address} has no failed items")
    else:
        again = "; it was finished and is open again" if done.reopened else ""
        click.echo(f"{done.items} item{'s' * (done.items != 1)} of {done.address} will be executed again{again}: start the job")


@click.command()
@click.argument("address", required=False, shell_complete=complete_address)
@click.option("--older-than", metavar="DURATION", help="Remove all runs of which nothing was heard for so long (30d).")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@store_options
@clean_errors
def rm(store: Store, address: str | None, older_than: str | None, yes: bool) -> None:
    """Remove a run for good: log, checkpoints and recorded result. A live run is refused.

    With --older-than all runs that are that old, finished or not; live and unreadable ones stay.
    """
    if (address is None) == (older_than is None):
        raise OptionError("give either an address or --older-than", where="ckpt rm", fix="see ckpt rm --help")
    if older_than is not None:
        old = [run.address for run in store.old(parse_duration(older_than))]
    else:
        assert address is not None
        old = [store.find(address)]
        store.check_remove(old[0])  # before anybody is asked
    if not old:
        click.echo(f"no run is older than {older_than}")
        return
    if not yes:
        what = old[0] if len(old) == 1 else f"these {len(old)} runs:\n  " + "\n  ".join(old) + "\n"
        confirm(f"remove {what} for good?")
    busy = 0
    for whole in old:
        try:
            store.remove(whole)
            click.echo(f"removed {whole}")
        except RunBusyError:
            if older_than is None:
                raise
            busy += 1
            click.echo(f"ckpt: {whole} has been started again, and stays", err=True)
    sys.exit(PROBLEM if busy else 0)


@click.command()
@json_option
@store_options
@clean_errors
def sweep(store: Store, as_json: bool) -> None:
    """Remove what crashes left behind: packs of dead attempts, unfinished files, half-removed runs.

    Runs that cannot be trusted are left as they are and named; then the status is 1.
    """
    swept = store.sweep()
    if as_json:
        print_json(swept)
    else:
        for key in swept.keys:
            click.echo(f"removed {key}")
        click.echo(f"{len(swept.keys)} keys removed, {size_text(swept.nbytes)} freed")
        print_findings(console(stderr=True), swept.skipped)
    sys.exit(PROBLEM if swept.skipped else 0)
