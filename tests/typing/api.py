"""What a type checker sees of the public interface. Checked by ``mypy --strict``, never run.

A line with ``# type: ignore[code]`` is one that has to be refused: mypy reports an ignore that is not needed.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, assert_type

import ckpt


@ckpt.job
def plain(steps: int, seed: int = 0) -> float:
    total = 0.0
    for t in ckpt.loop(range(steps)):
        assert_type(t, int)
        total += t + seed
    return total


@ckpt.job(name="named", every="30s", keep=3, on_code_change="fail", recreate=("client",))
def with_options(paths: list[Path], *, strict: bool) -> dict[str, int]:
    sizes = {}
    for number, path in ckpt.loop(enumerate(paths), name="paths", progress=True):
        assert_type(number, int)
        assert_type(path, Path)
        sizes[str(path)] = size_of(path)
    return sizes


@ckpt.step
def size_of(path: Path) -> int:
    return path.stat().st_size


@ckpt.step(name="fetch", retries=3, backoff=0.5, retry_on=(OSError,), record_errors=True)
def fetch(url: str, timeout_s: float = 10.0) -> bytes:
    assert_type(ckpt.operation_key(), str)
    return url.encode()


@ckpt.job
async def crawl(urls: list[str], depth: int = 1) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for url in ckpt.loop(urls, key=str):
        assert_type(url, str)
        assert_type(await get(url), bytes)
        first, second = await asyncio.gather(get(url), ckpt.step(get, key=url)(url))
        assert_type(second, bytes)
        sizes[url] = len(first)
    async for line in ckpt.loop(lines(), name="lines"):
        assert_type(line, str)
    return sizes


@ckpt.step(retries=2)
async def get(url: str, timeout_s: float = 1.0) -> bytes:
    return url.encode()


async def lines() -> AsyncIterator[str]:
    yield "line"


async def async_jobs_keep_their_signature() -> None:
    assert_type(await crawl(["a"]), dict[str, int])
    assert_type(await crawl.options(run_id="first")(["a"], depth=2), dict[str, int])
    assert_type(asyncio.run(crawl(["a"])), dict[str, int])
    assert_type(crawl.address(["a"]), str)
    await crawl("a")  # type: ignore[arg-type]
    await get(1)  # type: ignore[arg-type]
    async for _ in ckpt.loop([1]):  # type: ignore[attr-defined]
        pass
    async for page in ckpt.map(get, ["url"], ordered=False):
        assert_type(page, bytes)
    async for length in ckpt.loop(ckpt.map(len, ["a"])):
        assert_type(length, int)


def jobs_keep_their_signature() -> None:
    assert_type(plain(3), float)
    assert_type(plain(3, seed=4), float)
    assert_type(plain.options(fresh=True, wait=30)(3), float)
    assert_type(plain.address(3), str)
    assert_type(with_options([Path()], strict=True), dict[str, int])
    plain("three")  # type: ignore[arg-type]
    plain()  # type: ignore[call-arg]
    plain(3, sead=4)  # type: ignore[call-arg]
    plain.address("three")  # type: ignore[arg-type]
    plain.options(frehs=True)  # type: ignore[arg-type]
    with_options([Path()])  # type: ignore[call-arg]


def steps_keep_their_signature() -> None:
    assert_type(size_of(Path()), int)
    assert_type(fetch("https://example.org", timeout_s=1.0), bytes)
    assert_type(ckpt.step(len)("abc"), int)
    assert_type(ckpt.step(fetch, key="front page")("https://example.org"), bytes)
    size_of("path")  # type: ignore[arg-type]
    fetch(1)  # type: ignore[arg-type]
    ckpt.step(size_of, retires=3)  # type: ignore[call-overload]


def maps_yield_the_results_type() -> None:
    for size in ckpt.map(size_of, [Path()], key=str, executor="processes", max_workers=2, timeout="5s"):
        assert_type(size, int)
    for length in ckpt.loop(ckpt.map(len, ["a"], ordered=False, retries=2, retry_on=OSError, limit="10/s")):
        assert_type(length, int)
    for found in ckpt.map(len, ["a"], on_error="collect"):
        if isinstance(found, ckpt.Failed):
            assert_type(found.attempts, int)
            assert_type(found.error, BaseException)
        else:
            assert_type(found, int)
    for page in ckpt.map(get, ["url"], timeout=1.0):
        assert_type(page, bytes)
    ckpt.map(len, [1])  # type: ignore[arg-type]
    ckpt.map(len, ["a"], on_error="ignore")  # type: ignore[call-overload]


def loops_yield_the_items_type() -> None:
    for word in ckpt.loop(["a", "b"], key=len):
        assert_type(word, str)
    for left, right in ckpt.loop(zip([1], ["a"], strict=True)):
        assert_type(left, int)
        assert_type(right, str)
    ckpt.loop(3)  # type: ignore[call-overload]


class Ledger(ckpt.Logged):
    def __init__(self, opening: int) -> None:
        self.balance = opening

    @ckpt.operation
    def post(self, account: str, amount: int) -> int:
        self.balance += amount
        return self.balance


def open_gives_a_run() -> None:
    with ckpt.open("name", run_id="first", every="5m", keep=2) as run:
        assert_type(run.address, str)
        assert_type(run.id, str)
        assert_type(run.attempt, int)
        assert_type(run.resumed, bool)
        assert_type(run.log_position, str)
        run.checkpoint()
        run.request_checkpoint()
        run.dict("seen")["a"] = 1
        run.list("rows").append("b")
        assert_type(run.counter("hits").add(2), float)
        assert_type(len(run.dict("seen")), int)
    with ckpt.open("name", sync="interval:1s", expect_at_least="1.2") as run:
        ledger = run.logged(Ledger, "ledger", 3, check=True)
        assert_type(ledger.post("ann", 2), int)
        ledger.post("ann")  # type: ignore[call-arg]
    ckpt.open("name", synch="always")  # type: ignore[call-arg]
    current = ckpt.current_run()
    if current is not None:
        assert_type(current.address, str)
    current.checkpoint()  # type: ignore[union-attr]


def outputs_are_files() -> None:
    with ckpt.output("a.csv", "w", newline="") as text:
        assert_type(text, IO[str])
        csv.writer(text).writerow([1])
    assert_type(ckpt.output(Path("a.bin"), "ab"), IO[bytes])
    ckpt.output("a.bin", "ab", encoding="utf-8")  # type: ignore[call-overload]
    ckpt.output("a.txt", "r")  # type: ignore[call-overload]


def errors_are_a_tree() -> None:
    try:
        plain(3)
    except ckpt.errors.RunBusyError as error:
        assert_type((error.host, error.pid, error.since), tuple[str, int, float])
    except ckpt.CkptError as error:
        assert_type(error.fix, str)
    except ckpt.Preempted as stopped:
        assert_type(stopped.reason, str)
