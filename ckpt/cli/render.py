"""How runs look: texts for sizes and times, and tables. Knows nothing of stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ckpt.events import span_text
from ckpt.store import Attempt, Checkpoint, DeadLetter, Diff, Entry, Finding, Repair, RunInfo, RunSummary
from ckpt.store.info import operations_text
from ckpt.triggers import AT_RISK

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STATUS_STYLES = {
    "running": "cyan",
    "finished": "green",
    "failed": "red",
    "preempted": "yellow",
    "crashed": "yellow",
    "damaged": "bold red",
    "other key": "bold red",
    "empty": "dim",
    "ended": "dim",
    "forked": "dim",
    "reopened": "yellow",
}
NARROW = 80
"""Columns below which a list leaves out what can be asked for with ``ckpt show``."""

RUN_COLUMNS = (
    ("run", "fold"),
    ("status", "left"),
    ("position", "fold"),
    ("attempts", "right"),
    ("checkpoints", "right"),
    ("size", "right"),
    ("last activity", "right"),
)
"""Headings and justifications (see ``table``) of ``ckpt ls``."""


def size_text(nbytes: float) -> str:
    """``0 B``, ``812 B``, ``3.4 KiB``, ``1.2 GiB``."""
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    power = 0
    while nbytes >= 1023.95 and power < len(units) - 1:
        nbytes, power = nbytes / 1024, power + 1
    return f"{nbytes:.1f} {units[power]}" if power else f"{nbytes:.0f} B"


def counted(number: int, one: str, several: str = "") -> str:
    """``1 entry``, ``3 entries``."""
    return f"{number} {one if number == 1 else several or one + 's'}"


def recorded_text(recorded: Mapping[str, int]) -> str:
    """``3 steps, 1 item``; empty for nothing."""
    return ", ".join(counted(number, kind.removesuffix("s")) for kind, number in sorted(recorded.items()))


def moment_text(when: float | None, now: float) -> str:
    """How long ago, in its largest unit (``3 h ago``); empty if unknown."""
    if when is None:
        return ""
    number, unit, *_ = span_text(max(0.0, now - when)).split()
    return f"{number} {unit} ago"


def styled(status: str) -> Any:
    from rich.text import Text

    return Text(status, style=STATUS_STYLES.get(status, ""))


def plain(text: object, style: str = "") -> Any:
    """Text that rich must not read as markup."""
    from rich.text import Text

    return Text(str(text), style=style)


def table(columns: Sequence[tuple[str, str]], title: str = "") -> Table:
    """An empty table: (heading, justification) each; only a column with justification "fold" breaks its lines."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title or None, title_justify="left")
    made.title_style = "bold"
    for heading, justify in columns:
        fold = justify == "fold"
        side: Any = "left" if fold else justify
        made.add_column(heading, justify=side, overflow="fold", no_wrap=not fold)
    return made


def runs_table(runs: Sequence[RunSummary], now: float, width: int) -> Table:
    """``ckpt ls`` on a terminal; a narrow one gets fewer columns."""
    columns = RUN_COLUMNS[:3] if width < NARROW else RUN_COLUMNS
    made = table(columns)
    for run in runs:
        address, status, *more = _run_cells(run, now)
        made.add_row(plain(address), styled(status), *map(plain, more[: len(columns) - 2]))
    return made


def runs_lines(runs: Sequence[RunSummary], now: float) -> Iterator[str]:
    """``ckpt ls`` in a pipe: the same columns, each as wide as it has to be. Rich would take ten times as long."""
    rows = [[heading for heading, _ in RUN_COLUMNS], *(_run_cells(run, now) for run in runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [justify == "right" for _, justify in RUN_COLUMNS]
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        yield "  ".join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells).rstrip()


def _run_cells(run: RunSummary, now: float) -> list[str]:
    counts = [str(run.attempts), str(run.checkpoints), size_text(run.nbytes)]
    return [run.address, run.status, run.position, *counts, moment_text(run.last_activity, now)]


def print_run(console: Console, info: RunInfo, now: float) -> None:
    """``ckpt show``."""
    facts = table([("", "left"), ("", "fold")])
    facts.show_header = False
    for name, value in _facts(info, now):
        facts.add_row(plain(name, "dim"), value if not isinstance(value, str) else plain(value))
    console.print(facts)
    if info.attempts:
        console.print()
        console.print(_attempts_table(info.attempts, now))
    if info.checkpoints:
        console.print()
        console.print(_checkpoints_table(info.checkpoints, now, console.width))
        _print_state(console, info.checkpoints[-1])
    if info.damages or info.torn:
        console.print()
        print_findings(console, [*info.damages, *info.torn])


def _facts(info: RunInfo, now: float) -> list[tuple[str, Any]]:
    summary, newest = info.summary, info.newest
    facts: list[tuple[str, Any]] = [("run", summary.address), ("status", styled(summary.status))]
    if info.arguments:
        facts.append(("arguments", info.arguments))
    if summary.position:
        facts.append(("position", summary.position))
    if info.forked_from:
        facts.append(("forked from", info.forked_from))
    if info.alive is None:
        facts.append(("alive", "unknown: its last attempt ran on another host"))
    if info.outcome is not None:
        facts += _outcome_facts(info)
    facts += [
        ("attempts", str(summary.attempts)),
        ("checkpoints", str(summary.checkpoints)),
        ("recorded", f"{recorded_text(info.recorded) or 'nothing'} since the last checkpoint"),
        ("log ends at", info.log_position),
        ("in the store", size_text(summary.nbytes)),
    ]
    facts += _pace_facts(info)
    if summary.last_activity is not None:
        facts.append(("last activity", moment_text(summary.last_activity, now)))
    if newest is not None:
        import shlex

        facts += [("command", shlex.join(newest.command)), ("folder", newest.cwd)]
        facts.append(("with", f"Python {newest.python}, ckpt {newest.ckpt}, on {newest.host}"))
    return facts


def _pace_facts(info: RunInfo) -> Iterator[tuple[str, str]]:
    """How often checkpoints are taken, and what they cost."""
    if info.every:
        now_each = "" if info.wait_s is None else f", which is each {span_text(info.wait_s)} at the newest"
        yield "checkpoint every", info.every + now_each
    cost = cost_text(info)
    if cost:
        yield "time in checkpoints", cost
    if any(each.reason == AT_RISK for each in info.checkpoints):
        yield "", "above the budget: they are dear here, and the bound on the work at risk came first"


def _outcome_facts(info: RunInfo) -> list[tuple[str, Any]]:
    outcome = info.outcome
    assert outcome is not None
    facts: list[tuple[str, Any]] = []
    if outcome.error:
        facts.append(("error", outcome.error))
    if outcome.result_type is not None:
        # What is stored with the result, such as the state of the generators, counts too.
        size = "" if outcome.result_bytes is None else f" (recorded in {size_text(outcome.result_bytes)})"
        facts.append(("result", f"{outcome.result_type}{size}"))
    return facts


def cost_text(info: RunInfo) -> str:
    """What checkpoints cost the last attempt, if it said so, or as far back as the log goes; empty if that is unknown."""
    if info.outcome is not None and info.outcome.seconds > 0:
        share = _share_text(info.outcome.stall_s, info.outcome.seconds)
        all_in = 100 * info.outcome.cost_s / info.outcome.seconds
        return f"{share} of the last attempt; {all_in:.2f} % with the work beside the job"
    between_s = sum(each.interval_s for each in info.checkpoints)
    return _share_text(sum(each.stall_s for each in info.checkpoints), between_s) if between_s > 0 else ""


def _share_text(part_s: float, whole_s: float) -> str:
    return f"{span_text(part_s)} of {span_text(whole_s)} ({100 * part_s / whole_s:.2f} %)"


def _attempts_table(attempts: Sequence[Attempt], now: float) -> Table:
    made = table(
        [("number", "right"), ("status", "left"), ("started", "right"), ("lasted", "right"), ("process", "fold")],
        "Attempts",
    )
    for each in attempts:
        lasted = _lasted_text(each, now)
        made.add_row(
            plain(each.number),
            styled(each.status),
            plain(moment_text(each.started, now)),
            plain(lasted),
            plain(f"{each.host} pid {each.pid}"),
        )
    return made


def _lasted_text(attempt: Attempt, now: float) -> str:
    if attempt.ended is None:
        return ""
    until = now if attempt.status == "running" else attempt.ended
    lasted = span_text(max(0.0, until - attempt.started))
    # One that was killed lived on from its last record, nobody knows how long.
    return f"last heard of after {lasted}" if attempt.status == "crashed" else lasted


def _checkpoints_table(checkpoints: Sequence[Checkpoint], now: float, width: int) -> Table:
    narrow = width < NARROW
    columns = [("number", "right"), ("kept", "left"), ("position", "fold"), ("state", "right"), ("stood still", "right")]
    if not narrow:
        columns += [("written", "right"), ("taken", "right"), ("why", "left")]
    made = table(columns, "Checkpoints")
    for each in checkpoints:
        cells = [
            plain(each.number),
            plain("yes" if each.kept else "no"),
            plain(each.position),
            plain(size_text(each.nbytes)),
            plain(span_text(each.stall_s)),
        ]
        if not narrow:
            cells += [plain(size_text(each.stored_nbytes)), plain(moment_text(each.when, now)), plain(each.reason)]
        made.add_row(*cells)
    return made


def _print_state(console: Console, checkpoint: Checkpoint) -> None:
    made = table([("variable", "fold"), ("size", "right")])
    for name, nbytes in sorted(checkpoint.captured.items(), key=lambda item: (-item[1], item[0])):
        made.add_row(plain(name), plain(size_text(nbytes) if nbytes >= 0 else "-"))
    for name, (kind, entries) in sorted(checkpoint.logged.items()):
        made.add_row(plain(f"{name} ({kind}, logged)"), plain(counted(entries, "entry", "entries")))
    for name in sorted(checkpoint.remade):
        made.add_row(plain(name), plain("made again", "dim"))
    if not made.row_count:
        return
    gone = "" if checkpoint.kept else ", which is not kept any more"
    console.print()
    console.print(plain(f"State in checkpoint {checkpoint.number}{gone}", "bold"))  # as a title it would be as narrow as the table
    console.print(made)
    if any(nbytes < 0 for nbytes in checkpoint.captured.values()):
        console.print(plain("-: no array, so its size is not measured", "dim"))


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Problems and notes, one line each."""
    for each in findings:
        word, style = ("problem", "bold red") if each.serious else ("note", "dim")
        line = plain(word, style)
        # What is said of a whole run has no place in a file.
        place = each.address if each.path.endswith("/") else f"{each.path} at byte {each.offset}"
        line.append(f": {place}: {each.what}", style="")
        console.print(line, soft_wrap=True)


def repair_lines(done: Repair) -> Iterator[str]:
    """``ckpt repair``: what was found, what is lost and how the run goes on."""
    if not done.found:
        yield f"{done.address}: nothing to repair"
        return
    for found in done.found:
        yield f"problem: {found.path} at byte {found.offset}: {found.what}"
    for loss in done.losses:
        yield f"{'lost' if loss.acknowledged else 'gone'}: {loss.path} at byte {loss.offset}: {loss.what}"
    if not any(loss.acknowledged for loss in done.losses):
        yield "nothing that was acknowledged is lost"
    yield f"kept: {counted(len(done.aside), 'original')}, in {done.kept_in}"
    if done.done:
        yield f"{done.address} is repaired; it goes on at {done.resumes}"
    else:
        needs = f" (with --{done.needs})" if done.needs else ""
        yield f"{done.address} would be repaired{needs}; it would go on at {done.resumes}"


def one_line(text: str) -> str:
    """What is said in several lines (an error and its fix), in one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def letter_lines(letters: Sequence[DeadLetter], now: float) -> Iterator[str]:
    """One line for each failed item."""
    for one in letters:
        tries = f"{one.attempts} attempt{'s' * (one.attempts != 1)}"
        again = ", to be executed again" if one.marked else ""
        said = f"{tries}, {moment_text(one.when, now)}{again}"
        yield f"{one.item[:12]}  {one.step}  {one_line(one.text)}  {one_line(one.error)} ({said})"


def entry_text(entry: Entry) -> str:
    """One record of a log, in a line."""
    head = entry.head
    if entry.kind == "fence":
        says = f"attempt {entry.attempt} on {head.get('host', '?')} pid {head.get('pid', '?')}"
    elif entry.kind == "operation" and "logged" in head:
        position = "" if "path" not in head else f" up to {head.get('where') or 'start'}"
        says = f"{operations_text(head)}{position}, {size_text(entry.nbytes)}"
    elif entry.kind == "operation":
        seconds = head.get("seconds")
        took = f" in {span_text(seconds)}" if isinstance(seconds, int | float) else ""
        outcome = "" if head.get("outcome") == "ok" else f" {head.get('outcome', '?')}"
        count = f", {counted(head['items'], 'item')}" if "items" in head else ""
        says = f"{head.get('step', '?')}{count}{outcome}{took} at {head.get('where') or 'start'}, {size_text(entry.nbytes)}"
    elif entry.kind == "checkpoint":
        says = f"number {head.get('number', '?')} ({head.get('reason', '?')}), state {size_text(head.get('nbytes', 0))}"
        says += f", stood still {span_text(head.get('stall_s', 0.0))}"
    elif entry.kind == "status":
        says = str(head.get("status", "?")) + (f": {one_line(str(head['error']))}" if head.get("error") else "")
    else:
        says = "earlier segments end here"
    return f"{entry.lsn:>10}  {entry.kind:<10}  {says}"


def diff_lines(diff: Diff) -> list[str]:
    """What differs between two checkpoints, a line each."""
    same = f"{size_text(diff.shared_nbytes)} in common, {size_text(diff.only_a_nbytes)} only in the first"
    lines = [f"{diff.a}  {diff.position_a}", f"{diff.b}  {diff.position_b}"]
    wide = max((len(entry.name) for entry in diff.entries), default=0)
    for entry in diff.entries:
        there = ("added", entry.a), ("removed", entry.b)
        sizes = " -> ".join("-" if entry.change == gone else "" if size is None else size_text(size) for gone, size in there)
        lines.append(f"  {entry.name:<{wide}}  {entry.change:<8}  {sizes.strip(' ->') and sizes}".rstrip())
    return [*lines, f"{same}, {size_text(diff.only_b_nbytes)} only in the second"]
