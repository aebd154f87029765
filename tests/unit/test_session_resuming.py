"""A process that resumes has nothing at risk yet: when it takes its first checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.session import current
from ckpt.store import Store


class Dies(Exception):
    """The job stops here; it can be resumed."""


dies_at = -1


@ckpt.job(name="counts", key="a", keep=50)
def counts(n: int) -> int:
    total = 0
    for i in ckpt.loop(range(n)):
        if i == dies_at:
            run = current.run_of_process()
            assert run is not None
            run._saving.wait_idle()
            raise Dies
        total += i
    return total


def positions(store: Store, address: str) -> list[int]:
    """At which iterations the kept checkpoints were taken, without the one at the job's entry."""
    found = store.open(address).checkpoints
    return [int(one.position.split()[1].split("/")[0]) for one in found if one.position.startswith("i ")]


def dies(job: Any, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "dies_at", at)
    with pytest.raises(Dies):
        job(100)


@pytest.mark.parametrize("way", ["resume", "fork"])
@pytest.mark.parametrize(("every", "later"), [("1h", []), ("20it", [20]), ("1h | 20it", [20])])
def test_first_checkpoint_of_a_process_that_resumes_is_due_as_if_it_had_just_taken_one(
    way: str, every: str, later: list[int], scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(scratch / "store")
    job = counts.options(store=str(scratch / "store"), every=every)
    dies(job, 10, monkeypatch)
    assert positions(store, "counts/a") == [0]
    run_id = "a" if way == "resume" else store.fork("counts/a").address.rpartition("/")[2]
    dies(job.options(run_id=run_id), 30, monkeypatch)
    assert positions(store, f"counts/{run_id}") == [0, *later]
