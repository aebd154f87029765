"""``ckpt.map`` without kills: order, bounds, retries, timeouts, failures, executors."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import ckpt
from ckpt import host
from ckpt.errors import (
    ExecutorLostError,
    IdentityError,
    ItemError,
    ItemTimeoutError,
    OptionError,
    UncapturableError,
    UnsupportedCodeError,
    WorkerLostError,
)

EXECUTORS = ["threads", "processes"]


def square(x: int) -> int:
    return x * x


def backwards(x: int) -> int:
    time.sleep(0.05 * (3 - x))
    return x


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_come_in_the_order_of_the_items(executor: str) -> None:
    assert list(ckpt.map(square, range(300), executor=executor, max_workers=3)) == [x * x for x in range(300)]
    assert list(ckpt.map(backwards, range(4), executor=executor, max_workers=4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_come_as_completed_where_that_is_asked_for(executor: str) -> None:
    found = list(ckpt.map(backwards, range(4), executor=executor, max_workers=4, ordered=False))
    assert sorted(found) == [0, 1, 2, 3]
    assert found != [0, 1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_endless_input_is_read_a_little_ahead_only(ordered: bool) -> None:
    read = []

    def numbers() -> Iterator[int]:
        for n in itertools.count():
            read.append(n)
            yield n

    results = iter(ckpt.map(lambda n: time.sleep(0.003) or n, numbers(), max_workers=2, ordered=ordered))
    assert not read, "no item is read before a result is asked for"
    assert len([next(results) for _ in range(20)]) == 20
    results.close()  # type: ignore[attr-defined]
    assert len(read) <= 20 + 2 * 8 * 2


def test_results_are_gone_through_once() -> None:
    results = ckpt.map(square, [1])
    assert list(results) == [1]
    with pytest.raises(OptionError, match="gone through once"):
        iter(results)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_lambda_and_a_closure_can_be_mapped(executor: str) -> None:
    offset = 7
    assert list(ckpt.map(lambda x: x + offset, [1, 2], executor=executor, max_workers=1)) == [8, 9]


class Flaky:
    """Fails ``times`` times for each item, counted in a folder, as the tries may be in several processes."""

    def __init__(self, folder: Path, times: int, error: type[Exception] = OSError) -> None:
        self.folder, self.times, self.error = folder, times, error

    def __call__(self, x: int) -> int:
        count = len(list(self.folder.glob(f"{x}-*")))
        (self.folder / f"{x}-{count}").touch()
        if count < self.times:
            raise self.error(f"try {count} of {x}")
        return x


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_failing_item_is_tried_again(executor: str, tmp_path: Path) -> None:
    found = ckpt.map(Flaky(tmp_path, 2), range(5), retries=2, backoff=0.001, executor=executor, max_workers=2)
    assert list(found) == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.iterdir())) == 15


def test_only_exceptions_of_retry_on_are_tried_again(tmp_path: Path) -> None:
    flaky = Flaky(tmp_path, 1, ValueError)
    with pytest.raises(ValueError, match="try 0 of 3"):
        list(ckpt.map(flaky, [3], retries=5, backoff=0.001, retry_on=OSError))
    assert len(list(tmp_path.iterdir())) == 1


def test_no_try_begins_later_than_retry_for(tmp_path: Path) -> None:
    [failed] = ckpt.map(
        Flaky(tmp_path, 99), [1], retries=99, backoff=0.02, retry_for=0.3, on_error="collect", retry_on=(OSError,)
    )
    assert isinstance(failed, ckpt.Failed)
    assert 2 <= failed.attempts < 20


@pytest.mark.parametrize("executor", EXECUTORS)
def test_failed_items_are_collected_in_their_places(executor: str) -> None:
    found = list(ckpt.map(lambda x: 12 // x, [1, 0, 4], on_error="collect", executor=executor, max_workers=2))
    failed = found[1]
    assert [found[0], found[2]] == [12, 3]
    assert isinstance(failed, ckpt.Failed)
    assert (failed.item, failed.attempts, type(failed.error)) == (0, 1, ZeroDivisionError)
    assert "12 // x" in "".join(failed.error.__notes__), "the place where it was raised is told"


def test_failed_items_are_skipped() -> None:
    assert list(ckpt.map(lambda x: 12 // x, [1, 0, 4], on_error="skip")) == [12, 3]


def test_a_failed_item_raises_in_its_place() -> None:
    results = iter(ckpt.map(lambda x: 12 // x, [1, 0, 4]))
    assert next(results) == 12
    with pytest.raises(ZeroDivisionError):
        next(results)


class Unpicklable(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


def raises_unpicklable(x: int) -> int:
    raise Unpicklable(code=x)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_exception_that_cannot_be_pickled_comes_as_its_text(executor: str) -> None:
    with pytest.raises(ItemError, match="Unpicklable: code 5"):
        list(ckpt.map(raises_unpicklable, [5], executor=executor, max_workers=1))


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_result_that_cannot_be_pickled_is_named(executor: str) -> None:
    with pytest.raises(UncapturableError, match=r"result of an item.*lock"):
        list(ckpt.map(lambda _: threading.Lock(), [5], executor=executor, max_workers=1))


def test_an_item_without_a_digest_wants_a_key() -> None:
    things: list[Any] = [object(), object()]
    with pytest.raises(IdentityError, match="key="):
        list(ckpt.map(id, things))
    assert len(list(ckpt.map(id, things, key=id))) == 2


def sleepy(x: int) -> int:
    time.sleep(60 if x == 1 else 0)
    return x


def test_an_item_that_takes_too_long_is_ended_and_the_others_go_on() -> None:
    began = time.monotonic()
    found = list(ckpt.map(sleepy, range(4), executor="processes", max_workers=2, timeout=0.5, on_error="collect"))
    assert time.monotonic() - began < 30, "it was not waited for"
    failed = found.pop(1)
    assert found == [0, 2, 3]
    assert isinstance(failed, ckpt.Failed)
    assert isinstance(failed.error, ItemTimeoutError)
    assert isinstance(failed.error, TimeoutError)


def test_a_timed_out_item_is_tried_again(tmp_path: Path) -> None:
    [failed] = ckpt.map(sleepy, [1], executor="processes", timeout=0.2, retries=2, backoff=0, on_error="collect")
    assert isinstance(failed, ckpt.Failed)
    assert failed.attempts == 3


def test_a_timeout_is_refused_where_nothing_can_be_ended() -> None:
    with pytest.raises(OptionError, match="processes"):
        list(ckpt.map(square, [1], timeout=1))


def dies_once(path: Path) -> str:
    if path.name.startswith("bad") and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def dies(x: int) -> int:
    if x == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_an_item_whose_worker_was_killed_runs_again(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "bad-1", "b", "bad-2", "c")]
    assert list(ckpt.map(dies_once, paths, executor="processes", max_workers=2)) == [path.name for path in paths]


def test_an_item_that_kills_every_worker_is_held_to_be_the_cause() -> None:
    found = list(ckpt.map(dies, range(5), executor="processes", max_workers=2, on_error="collect"))
    failed = found.pop(2)
    assert found == [0, 1, 3, 4]
    assert isinstance(failed, ckpt.Failed)
    assert isinstance(failed.error, WorkerLostError)
    assert "exit status -9" in str(failed.error)


def test_a_broken_executor_is_made_again_by_the_function_that_makes_it(tmp_path: Path) -> None:
    made = []

    def make() -> ProcessPoolExecutor:
        made.append(1)
        return ProcessPoolExecutor(2)

    paths = [tmp_path / name for name in ("a", "bad-1", "b", "bad-2", "c", "d")]
    assert list(ckpt.map(dies_once, paths, executor=make)) == [path.name for path in paths]
    assert len(made) >= 2
    found = list(ckpt.map(dies, range(5), executor=make, on_error="collect"))
    assert [one for one in found if not isinstance(one, ckpt.Failed)] == [0, 1, 3, 4], "only the culprit failed"


def test_a_broken_executor_that_was_given_is_lost() -> None:
    with ProcessPoolExecutor(1) as given, pytest.raises(ExecutorLostError, match="ProcessPoolExecutor"):
        list(ckpt.map(dies, [2], executor=given))


def test_an_executor_that_was_shut_down_is_lost() -> None:
    given = ThreadPoolExecutor(1)
    given.shutdown()
    with pytest.raises(ExecutorLostError, match="shutdown"):
        list(ckpt.map(square, [2], executor=given))


def test_any_executor_will_do() -> None:
    with ThreadPoolExecutor(2) as threads:
        assert list(ckpt.map(square, range(5), executor=threads)) == [0, 1, 4, 9, 16]
        assert threads.submit(square, 3).result() == 9, "it is not ours to shut down"
    with ProcessPoolExecutor(2) as processes:
        assert list(ckpt.map(square, range(5), executor=processes)) == [0, 1, 4, 9, 16]


def test_workers_are_gone_when_the_map_is_left() -> None:
    pids = set()
    for pid in ckpt.map(lambda _: os.getpid(), range(40), executor="processes", max_workers=2):
        pids.add(pid)
        if len(pids) == 2:
            break
    assert os.getpid() not in pids
    assert not any(host.process_alive(pid) for pid in pids)


def test_tries_begin_no_faster_than_the_limit() -> None:
    began: list[float] = []
    list(ckpt.map(lambda _: began.append(time.monotonic()), range(12), limit="50/s", max_workers=8))
    assert len(began) == 12
    assert max(began) - min(began) >= 11 / 50 - 0.05, "eleven intervals of 20 ms, less what a late wake-up makes up for"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": "fast"}, "limit"),
        ({"limit": "0/s"}, "limit"),
        ({"max_workers": 0}, "max_workers"),
        ({"retries": -1}, "retries"),
        ({"backoff": -1}, "backoff"),
        ({"retry_on": ("x",)}, "retry_on"),
        ({"on_error": "ignore"}, "on_error"),
        ({"timeout": 0, "executor": "processes"}, "timeout"),
        ({"retry_for": "soon"}, "soon"),
        ({"key": 3}, "key"),
        ({"max_worker": 2}, "did you mean max_workers"),
    ],
)
def test_an_option_without_sense_is_refused_when_map_is_called(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        ckpt.map(square, [1], **options)


@pytest.mark.parametrize("executor", ["cores", 3, "dusk://x"])
def test_an_unknown_executor_is_refused(executor: Any) -> None:
    with pytest.raises(OptionError, match="executor"):
        list(ckpt.map(square, [1], executor=executor))


def test_what_has_no_result_is_refused() -> None:
    def generator(x: int) -> Iterator[int]:
        yield x

    with pytest.raises(UnsupportedCodeError, match="generator"):
        ckpt.map(generator, [1])
    with pytest.raises(OptionError, match="int"):
        ckpt.map(3, [1])  # type: ignore[call-overload]


def test_an_error_of_the_input_reaches_the_caller() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise KeyError("broken input")

    with pytest.raises(KeyError, match="broken input"):
        list(ckpt.map(square, numbers()))


def keyed(name: str) -> str:
    return ckpt.operation_key()


@ckpt.job
def keys_of(executor: str, store: str) -> list[str]:
    return list(ckpt.map(keyed, ["a", "b"], executor=executor, max_workers=2))


def test_an_item_has_the_same_operation_key_wherever_it_runs(tmp_path: Path) -> None:
    found = [keys_of.options(store=tmp_path / name, run_id="same")(name, "") for name in EXECUTORS]
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


@ckpt.step
def counted(x: int) -> int:
    return x + 1


@ckpt.job(key="steps")
def steps_inside() -> list[int]:
    return list(ckpt.map(counted, [1, 2]))


def test_a_step_inside_an_item_is_plain(tmp_path: Path) -> None:
    assert steps_inside.options(store=tmp_path)() == [2, 3]
