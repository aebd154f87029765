"""A run that begins at its beginning while others of its job wait to be resumed: perhaps one of those was meant."""

from __future__ import annotations

from ckpt import events
from ckpt.errors import IntegrityError
from ckpt.format.names import RunNames, is_run_id
from ckpt.root import StoreRoot
from ckpt.store.reading import sizes_below, summarize

MAX_RUNS = 10
"""Jobs with more runs are parameter studies, where runs with other arguments are nothing to wonder about."""


def say_unfinished(root: StoreRoot, names: RunNames, arguments: str) -> None:
    """Name one unfinished run of the same job with other arguments, if there is any. StorageError."""
    folder = names.prefix.partition("/")[0]
    found = root.storage.children(f"{folder}/")
    if len(found) > MAX_RUNS:
        return
    waiting = []
    for run_id in (one for one in found if is_run_id(one) and one != names.run_id):
        other = RunNames(names.job, run_id)
        try:
            summary = summarize(root, other, sizes_below(root.storage, other.prefix))
        except IntegrityError:
            continue  # `ckpt ls` shows it; it is no candidate for going on
        if summary.status in ("crashed", "preempted", "failed", "reopened"):
            waiting.append(summary)
    if waiting:
        newest = max(waiting, key=lambda one: one.last_activity or 0.0)
        more = f", and {len(waiting) - 1} more" if len(waiting) > 1 else ""
        events.say(
            f"{names.address}: a new run ({arguments}); {newest.address} ({newest.arguments}) {newest.status} "
            f"at {newest.position or 'its start'}{more}: see `ckpt ls`"
        )
