"""With ``CKPT_DISABLE=1`` a job behaves as the plain function: what it asks its run for is there, and nothing is stored."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt.errors import OptionError
from ckpt.jobs.plain import PlainRun, current_plain_run


@pytest.fixture(autouse=True)
def disabled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CKPT_DISABLE", "1")
    monkeypatch.setenv("CKPT_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def with_everything(n: int) -> dict[str, Any]:
    run = ckpt.current_run()
    assert run is not None
    state = run.state(total=0, seen=[])
    rows, index, count = run.list("rows"), run.dict("index"), run.counter("count")
    for i in run.loop(range(n)):
        state.total += ckpt.step(pow)(i, 2)
        state.seen.append(i)
        rows.append(i)
        index[str(i)] = i
        count.add(1)
        run.checkpoint()
        run.request_checkpoint()
    return {
        "total": state.total, "seen": state.seen, "rows": [*rows], "index": dict(index), "count": count.value,
        "step": run.step(pow)(2, 5), "address": run.address, "attempt": run.attempt, "resumed": run.resumed,
        "mapped": [*ckpt.map(abs, [-1, -2])], "position": run.log_position,
    }  # fmt: skip


def test_disabled_job_has_a_run_without_effect_and_stores_nothing(disabled: Path) -> None:
    found = ckpt.job(name="everything")(with_everything)(4)
    assert found == {
        "total": 14, "seen": [0, 1, 2, 3], "rows": [0, 1, 2, 3], "index": {"0": 0, "1": 1, "2": 2, "3": 3}, "count": 4,
        "step": 32, "address": "everything/plain", "attempt": 1, "resumed": False, "mapped": [1, 2], "position": "",
    }  # fmt: skip
    assert ckpt.current_run() is None, "it ended with the job"
    assert not disabled.exists()


def test_disabled_block_gives_a_run_without_effect(disabled: Path) -> None:
    with ckpt.open("block", run_id="one") as run:
        state = run.state(total=1)
        for i in ckpt.loop(range(3)):
            state.total += i
        run.checkpoint()
        assert (state.total, run.address) == (4, "block/one")
    assert not disabled.exists()


def test_job_in_a_disabled_job_belongs_to_the_outer_run() -> None:
    @ckpt.job
    def inner() -> str:
        run = ckpt.current_run()
        assert run is not None
        return run.address

    @ckpt.job(name="outer")
    def outer() -> tuple[str, str]:
        run = ckpt.current_run()
        assert run is not None
        return inner(), run.address

    assert outer() == ("outer/plain", "outer/plain")
    assert inner().endswith("inner/plain"), "by itself it has its own"


@pytest.mark.parametrize("raises", [ValueError, KeyboardInterrupt])
def test_disabled_job_that_raises_leaves_no_run_behind(raises: type[BaseException]) -> None:
    @ckpt.job
    def job() -> None:
        raise raises

    with pytest.raises(raises):
        job()
    assert ckpt.current_run() is None


def test_plain_runs_of_threads_are_their_own() -> None:
    """As with real runs: what another thread does belongs to no job."""
    seen: list[Any] = []

    @ckpt.job
    def job() -> None:
        thread = threading.Thread(target=lambda: seen.append(ckpt.current_run()))
        thread.start()
        thread.join()
        seen.append(ckpt.current_run())

    job()
    assert seen[0] is None
    assert isinstance(seen[1], PlainRun)


def test_disabled_async_job_is_the_plain_coroutine_function(disabled: Path) -> None:
    @ckpt.job
    async def job(n: int) -> int:
        total = 0
        for i in ckpt.loop(range(n)):
            await asyncio.sleep(0)
            total += i
        return total

    assert asyncio.run(job(5)) == 10
    assert current_plain_run() is None
    assert not disabled.exists()


def test_arguments_without_a_digest_and_results_without_a_pickle_are_fine() -> None:
    made: Callable[[object], object] = ckpt.job(lambda_free)
    thing = object()
    assert made(thing) is thing


def lambda_free(value: object) -> object:
    return value


@pytest.mark.parametrize(
    "program",
    ["@ckpt.job\ndef work():\n    for _ in ckpt.loop([1]): pass\nwork()", "with ckpt.open('block') as run:\n    run.checkpoint()"],
)
def test_disabled_program_loads_nothing_of_what_stores_and_recovers(program: str) -> None:
    text = f"import sys, ckpt\n{program}\nprint(*sorted({{'ckpt.log', 'ckpt.snapshot', 'ckpt.session.run'}} & {{*sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "\n"


def pay(x: int) -> str:
    return ckpt.operation_key()


async def pay_async(x: int) -> str:
    await asyncio.sleep(0)
    return ckpt.operation_key()


def pays_in_all_ways() -> list[str]:
    run = ckpt.current_run()
    mapped = [*ckpt.map(pay, [1, 2], max_workers=2), *ckpt.map(pay, [1, 2], executor="processes", max_workers=1)]
    by_run = [] if run is None else [run.step(pay)(1), run.step(pay)(1)]
    awaited = [asyncio.run(ckpt.step(pay_async)(1)), *ckpt.map(pay_async, [1])]
    return [ckpt.step(pay)(1), ckpt.step(pay)(1), *mapped, *by_run, *awaited]


def test_operation_keys_of_plain_steps_and_maps_are_all_different(monkeypatch: pytest.MonkeyPatch) -> None:
    disabled_job = ckpt.job(name="pays")(pays_in_all_ways)
    keys = [*disabled_job(), *disabled_job()]
    monkeypatch.delenv("CKPT_DISABLE")
    keys += [*pays_in_all_ways(), *pays_in_all_ways()]
    assert len(set(keys)) == len(keys) == 2 * 10 + 2 * 8
    assert all(len(bytes.fromhex(key)) == 16 for key in keys)


def test_key_of_a_plain_step_is_one_within_its_execution() -> None:
    nested = ckpt.step(pay)
    first, inner, last = ckpt.step(lambda: (ckpt.operation_key(), nested(1), ckpt.operation_key()))()
    assert first == last != inner


def test_plain_code_in_no_step_has_no_operation_key() -> None:
    ckpt.step(pay)(1)
    with pytest.raises(OptionError, match=r"(?s)outside a step.*fix: .*ckpt\.step"):
        ckpt.operation_key()
    with pytest.raises(OptionError, match="outside a step"):
        ckpt.job(name="keyless")(ckpt.operation_key)()


def test_job_inside_a_plain_step_is_a_job(disabled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CKPT_DISABLE")

    @ckpt.job(name="within")
    def within(n: int) -> int:
        run = ckpt.current_run()
        assert run is not None
        with pytest.raises(OptionError, match="outside a step"):
            ckpt.operation_key()
        total = 0
        for i in ckpt.loop(range(n)):
            total += i
        return total

    assert ckpt.step(within)(4) == 6
    assert disabled.exists()
