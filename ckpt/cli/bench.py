"""``ckpt bench``: a program of the user with and without checkpoints; says what was measured."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckpt.bench import Measured, Request, Resumed, Spread, command_text, measure
from ckpt.cli.common import clean_errors, console, json_option, print_json
from ckpt.cli.render import plain, size_text, table
from ckpt.errors import OptionError
from ckpt.events import span_text
from ckpt.host import SystemClock
from ckpt.settings import parse_duration

if TYPE_CHECKING:
    from rich.console import Console


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Runs of each kind.")
@click.option("--mtbf", default="24h", show_default=True, metavar="T", help="Mean time between failures to plan for.")
@click.option("--every", metavar="TRIGGER", help='Sets CKPT_EVERY: "1%", "30s", "1000it".')
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it, too (.png, .svg).")
@json_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]...")
@clean_errors
def bench(
    rounds: int, mtbf: str, every: str | None, plot: Path | None, as_json: bool, command: tuple[str, ...]
) -> None:
    """Measure what checkpoints cost a program: it runs N times with and N times without, and once it is killed.

    Its runs go to a temporary store, never to your own. What it prints is not shown; what else it does, it does each time.
    """
    try:
        mtbf_s = parse_duration(mtbf)
    except OptionError as error:
        raise OptionError(error.what, where="--mtbf", fix=error.fix) from error
    if mtbf_s <= 0:
        raise OptionError("a mean time between failures is above 0", where="--mtbf", fix="write it like 24h")
    if plot is not None:
        from ckpt.cli.plot import check_available, draw

        check_available()
    # Its end is then one that ends the program that is being measured, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    found = measure(Request(command, rounds, mtbf_s, every), SystemClock(), _say)
    if plot is not None:
        draw(found, plot)
        _say(f"drawn: {plot}")
    if as_json:
        print_json(found)
    else:
        _show(console(), found)


def _say(line: str) -> None:
    click.echo(f"ckpt bench: {line}", err=True)


def _show(out: Console, found: Measured) -> None:
    made = table([("", "left"), ("", "fold")], command_text(found))
    made.show_header = False
    for name, text in _facts(found):
        made.add_row(plain(name), plain(text))
    out.print(made)


def _facts(found: Measured) -> Iterator[tuple[str, str]]:
    over, whole, each = found.overhead, found.whole, found.stall_s
    without, with_ = Spread.of(found.without_s), Spread.of(found.with_s)
    assert without is not None
    assert with_ is not None
    yield "without checkpoints", _spans(without)
    yield "with checkpoints", _spans(with_)
    yield "start of a run", f"{span_text(found.start_s.median)} from the call to its first line: once, however long it runs"
    yield "overhead", f"{over.median:+.1%} behind the start (median of {over.count}; {over.low:+.1%} to {over.high:+.1%})"
    yield "", f"{whole.median:+.1%} with the start ({whole.low:+.1%} to {whole.high:+.1%}); less, the longer it runs"
    if found.counted is not None:
        yield "", f"{found.counted:.2%} as the job counts it: standing still, and processor time beside it"
    yield "checkpoints", f"{found.checkpoints.median:g} in a run, {size_text(found.state_nbytes.median)} of state each"
    worst = f"nine of ten at most {span_text(each.p90)}, the longest {span_text(each.high)}"
    yield "stood still", f"{span_text(each.median)} for one ({worst})"
    yield "until durable", f"{span_text(found.persist_s.median)} more, beside the job"
    once, all_in = size_text(found.stored_nbytes.median), size_text(found.written.median)
    yield "written", f"{all_in} in a run, {once} for one"
    if found.at_risk_s is not None:
        risk = found.at_risk_s
        yield "work at risk", f"{span_text(risk.median)} from one to the next; at most {span_text(risk.high)}"
    yield from _resume_facts(found.resumed, found.not_resumed)
    yield from _advice_facts(found)


def _resume_facts(resumed: Resumed | None, why: str) -> Iterator[tuple[str, str]]:
    if resumed is None:
        yield "killed and resumed", f"not measured: {why}"
        return
    yield "killed and resumed", f"killed after {span_text(resumed.killed_s)}; {span_text(resumed.lost_s)} of work lost"
    yield "", f"went on {span_text(resumed.resume_s)} after its new start, the start of Python included"


def _advice_facts(found: Measured) -> Iterator[tuple[str, str]]:
    advice = found.advice
    yield f"with a failure each {span_text(advice.mtbf_s)}", (
        f"a checkpoint (costs {span_text(advice.cost_s)}) each {span_text(advice.daly_s)} is best (Daly; "
        f"Young: {span_text(advice.young_s)}): {advice.useful:.2%} of the time is useful"
    )
    if advice.measured_s is not None and advice.measured_useful is not None:
        measured = span_text(advice.measured_s)
        yield "", f"each {measured}, as measured: {advice.measured_useful:.2%}"


def _spans(spread: Spread) -> str:
    return f"{span_text(spread.median)} (median of {spread.count}; {span_text(spread.low)} to {span_text(spread.high)})"
