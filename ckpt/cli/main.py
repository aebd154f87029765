"""The group of commands and its entry point."""

from __future__ import annotations

import click

from ckpt._version import __version__
from ckpt.cli.bench import bench
from ckpt.cli.branch import diff, fork, reset
from ckpt.cli.demo import demo
from ckpt.cli.keys import key
from ckpt.cli.look import failed, log, ls, show
from ckpt.cli.start import resume, run
from ckpt.cli.upkeep import repair, retry, rm, sweep, verify


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ckpt")
def cli() -> None:
    """Checkpoints of long-running Python jobs: watch, resume, check and clean up.

    An ADDRESS is job/run_id, or the unique beginning of one, of a run id alone, or the name of a job with one run.
    """


for _command in (demo, run, resume, bench, ls, show, log, failed, retry, verify, repair, rm, sweep, fork, reset, diff, key):
    cli.add_command(_command)


def main() -> None:
    """Entry point of the console script; ends the process with the command's exit status."""
    cli(prog_name="ckpt")
