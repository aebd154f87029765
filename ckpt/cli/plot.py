"""The picture of ``ckpt bench --plot``. The home of matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ckpt.bench import Measured, command_text
from ckpt.errors import OptionError
from ckpt.failures import useful_share

POINTS = 200


def check_available() -> None:
    """OptionError if the library is not installed."""
    _figure_class()


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            "a picture needs the package matplotlib, which is not installed",
            where="--plot",
            fix='pip install "ckpt-jobs[plot]"',
        ) from error
    return Figure


def draw(found: Measured, path: Path) -> None:
    """Write the picture to ``path``, whose ending says the format. OptionError if that is unknown, or it cannot be written."""
    figure = _figure_class()(figsize=(12, 3.6), layout="constrained")
    times, stalls, choice = figure.subplots(1, 3)
    _times(times, found)
    stalls.hist([1e3 * each for each in found.stalls_s], bins=min(40, max(5, len(found.stalls_s) // 3)))
    stalls.set(title="one checkpoint", xlabel="the job stands still, ms", ylabel="checkpoints")
    _choice(choice, found)
    figure.suptitle(command_text(found))
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise OptionError(f"the picture cannot be written: {error}", where=str(path), fix="give a path like out.png") from error


def _times(axes: Any, found: Measured) -> None:
    rounds = range(1, len(found.with_s) + 1)
    axes.plot(rounds, found.without_s, "o-", label="without checkpoints")
    axes.plot(rounds, found.with_s, "s-", label="with")
    axes.set(title=f"overhead {found.overhead.median:+.1%}, start {found.start_s.median:.2g} s", xlabel="round", ylabel="whole run, s")
    axes.set_xticks(rounds)
    axes.set_ylim(0, 1.25 * max(*found.with_s, *found.without_s))
    axes.legend()


def _choice(axes: Any, found: Measured) -> None:
    """The useful share of the time over the interval."""
    advice, lost_s = found.advice, found.persist_s.median + (found.resumed.resume_s if found.resumed else 0.0)
    low, high = advice.daly_s / 30, advice.daly_s * 30
    if advice.measured_s:
        low, high = min(low, advice.measured_s / 2), max(high, 2 * advice.measured_s)
    spans = [low * (high / low) ** (step / (POINTS - 1)) for step in range(POINTS)]
    axes.plot(spans, [100 * useful_share(each, advice.cost_s, lost_s, advice.mtbf_s) for each in spans])
    axes.axvline(advice.daly_s, linestyle="--", color="grey", label="best (Daly)")
    if advice.measured_s is not None:
        axes.axvline(advice.measured_s, linestyle=":", color="black", label="measured")
    axes.set(xscale="log", title="which interval", xlabel="between checkpoints, s", ylabel="useful time, %")
    axes.legend()
