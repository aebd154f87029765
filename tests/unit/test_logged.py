"""Operation-logged objects: what they hold, what they refuse, and how they come back."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ckpt
import ckpt.snapshot.writer
from ckpt import host, retention
from ckpt.errors import OptionError, UncapturableError, UnsupportedCodeError
from ckpt.session import journal


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    with ckpt.open("unit", store=tmp_path / "store") as opened:
        yield opened


class Account(ckpt.Logged):
    def __init__(self, opened: int = 0) -> None:
        self.balance = opened
        self.history: list[int] = []

    @ckpt.operation
    def post(self, amount: int) -> list[int]:
        self.balance += amount
        self.history.append(amount)
        return self.history

    @ckpt.operation
    def stamp(self) -> None:
        self.balance = int(time.time())

    @ckpt.operation
    def draw(self) -> None:
        self.balance = random.randrange(100)

    @ckpt.operation
    def identify(self, _: object) -> None:
        self.balance = id(self)


class Forgetful:
    """Comes back from its pickle as another value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetful) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return Forgetful, (0,)


# -- what they hold


def test_values_that_can_change_are_copied_in_and_out(run: Any) -> None:
    seen, rows, given_ = run.dict("seen"), run.list("rows"), [1]
    seen["a"] = given_
    rows.append(given_)
    given_.append(2)
    seen["a"].append(3)
    rows[0].append(4)
    assert dict(seen) == {"a": [1]}
    assert list(rows) == [[1]]
    account = run.logged(Account, "account", 5)
    account.post(1).append(99)
    assert account.history == [1]


def test_names_lead_to_the_same_object(run: Any) -> None:
    assert run.dict("seen") is run.dict("seen")
    assert run.logged(Account, "account") is run.logged(Account, "account")


# -- what they refuse


def test_argument_that_does_not_round_trip_is_refused_by_name(run: Any) -> None:
    for change, named in (
        (lambda: run.dict("seen").__setitem__("k", Forgetful(3)), r"seen\['k'\]"),
        (lambda: run.list("rows").append(threading.Lock()), r"rows\.append"),
        (lambda: run.logged(Account, "account").post(Forgetful(1)), r"account\.post, argument 1"),
        (lambda: run.counter("hits").add("1"), "hits"),
        (lambda: run.dict("seen").__setitem__((1, [2]), 1), "seen, key"),
        (lambda: run.dict("seen").__setitem__(float("nan"), 1), "seen, key"),
    ):
        with pytest.raises(UncapturableError, match=named):
            change()
    assert len(run.dict("seen")) == len(run.list("rows")) == run.counter("hits").value == 0


def test_change_outside_of_an_operation_is_refused(run: Any) -> None:
    account = run.logged(Account, "account")
    with pytest.raises(UnsupportedCodeError, match=r"account.*'balance'.*outside of an operation"):
        account.balance = 7
    with pytest.raises(UnsupportedCodeError, match="outside"):
        del account.balance


def test_change_in_a_step_or_in_another_thread_is_refused(run: Any) -> None:
    seen = run.dict("seen")
    with pytest.raises(UnsupportedCodeError, match="in a step"):
        ckpt.step(lambda: seen.__setitem__("a", 1))()
    raised: list[Exception] = []

    def change() -> None:
        try:
            seen["b"] = 1
        except UnsupportedCodeError as error:
            raised.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert raised
    assert not seen


def test_one_name_is_one_object(run: Any) -> None:
    run.dict("seen")
    with pytest.raises(OptionError, match="'seen' is a dict"):
        run.list("seen")
    with pytest.raises(OptionError, match="no name"):
        run.dict("")
    with pytest.raises(OptionError, match=r"ckpt\.Logged"):
        run.logged(dict, "other")


def test_object_of_a_run_that_is_over_is_refused(tmp_path: Path) -> None:
    with ckpt.open("over", store=tmp_path) as run:
        seen = run.dict("seen")
    with pytest.raises(OptionError, match="is over"):
        seen["a"] = 1


def test_operation_that_reads_a_clock_or_random_numbers_is_refused_under_check(run: Any) -> None:
    account = run.logged(Account, "account", check=True)
    account.post(3)
    with pytest.raises(UnsupportedCodeError, match=r"account\.stamp.*time\.time"):
        account.stamp()
    other = run.logged(Account, "other", check=True)
    with pytest.raises(UnsupportedCodeError, match=r"other\.draw.*random\."):
        other.draw()
    third = run.logged(Account, "third", check=True)
    with pytest.raises(UnsupportedCodeError, match="another outcome"):
        third.identify(1)


def test_change_behind_the_back_of_the_log_is_found_under_check(run: Any) -> None:
    account = run.logged(Account, "account", check=True)
    account.post(3)
    account.history.append(4)
    with pytest.raises(UnsupportedCodeError, match="changed outside of its operations"):
        account.post(5)


# -- how they come back


class Dies(Exception):
    """The program ends here: what no checkpoint and no position holds is lost."""


class Life:
    """How many more inner iterations the program lives; not part of its state."""

    left = 0


@ckpt.job(name="nested", key="one", every="1it")
def nested() -> Any:
    """The dict is read between the loops, so it has to be exact there too."""
    run = ckpt.current_run()
    assert run is not None
    seen, sums = run.dict("seen"), []
    for outer in ckpt.loop(range(5)):
        sums.append(sum(seen.values()))
        for inner in ckpt.loop(range(6)):
            seen[inner] = seen.get(inner, 0) + outer * 10 + inner
            run._saving.wait_idle()
            Life.left -= 1
            if Life.left == 0:
                raise Dies
    return sums, dict(seen)


def test_objects_are_exact_at_every_state_of_the_path_with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "IMAGE_BYTES", 50)
    monkeypatch.setattr(journal, "SPILL", 3)
    expected = nested.options(store=tmp_path / "whole")()
    rng = random.Random(5)
    for turn in range(12):
        for _ in range(100):
            Life.left = rng.randint(4, 40)
            try:
                found = nested.options(store=tmp_path / str(turn))()
                break
            except Dies:
                continue
        assert found == expected, turn


def test_operations_in_front_of_a_loop_are_recorded_once(tmp_path: Path) -> None:
    def attempt(die_at: int) -> int:
        with ckpt.open("once", store=tmp_path) as run:
            hits = run.counter("hits")
            hits.add(100)
            for n in run.loop(range(10)):
                if n == die_at:
                    raise Dies
                hits.add(1)
            return hits.value

    for die_at in (4, 7):
        with pytest.raises(Dies):
            attempt(die_at)
    assert attempt(-1) == 110


def test_log_and_images_stay_in_proportion_to_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "IMAGE_BYTES", 10_000)
    turns = 40_000
    def attempt(die_at: int) -> tuple[list[int], int]:
        sizes = []
        with ckpt.open("many", store=tmp_path, sync="interval:1h", every="2000it") as run:
            hits, seen = run.counter("hits"), run.dict("seen")
            for n in run.loop(range(turns)):
                if n == die_at:
                    raise Dies
                hits.add(n)
                seen[n % 100] = n
                if n % 2000 == 1999:
                    run._saving.wait_idle()
                    sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*.*")))
        return sizes, hits.value + seen[99]

    with pytest.raises(Dies):
        attempt(turns // 2 + 100)
    sizes, found = attempt(-1)
    assert found == sum(range(turns)) + turns - 1
    assert max(sizes) < 900_000, "the log is let go of behind images: of some 1.8 MB of operations a part is there"


def test_positions_go_on_while_a_checkpoint_with_an_image_is_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "IMAGE_BYTES", 1)
    encode, may_go_on, done = journal.image.encode, threading.Event(), []

    def slowly(objects: Any) -> list[bytes]:
        may_go_on.wait(30)
        return encode(objects)

    def attempt(die_at: int) -> list[int]:
        with ckpt.open("flight", store=tmp_path, every="1h") as run:
            rows = run.list("rows")
            for n in run.loop(range(20)):
                if n == die_at:
                    may_go_on.set()
                    run._saving.wait_idle()
                    raise Dies
                done.append(n)
                rows.append(n)
                if n == 5 and die_at == 9:
                    monkeypatch.setattr(journal.image, "encode", slowly)
                    run.request_checkpoint()
            return list(rows)

    for die_at in (9, 15):
        with pytest.raises(Dies):
            attempt(die_at)
    assert attempt(-1) == done == list(range(20)), "the checkpoint became durable last, and says less than the positions"


def test_log_is_kept_as_long_as_no_image_stands_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROTATE_BYTES", 2000)

    def attempt(die_at: int) -> list[int]:
        with ckpt.open("kept", store=tmp_path, every="100it", sync="interval:1h") as run:
            rows = run.list("rows")
            for n in run.loop(range(1000)):
                if n == die_at:
                    raise Dies
                rows.append(n)
                if n % 100 == 99:
                    run._saving.wait_idle()
            return list(rows)

    for die_at in (450, 950):
        with pytest.raises(Dies):
            attempt(die_at)
    assert attempt(-1) == list(range(1000))


def test_random_numbers_that_an_iteration_drew_come_back(tmp_path: Path) -> None:
    def attempt(folder: str, die_at: int) -> list[Any]:
        random.seed(7)
        with ckpt.open("draws", store=tmp_path / folder, every="1h") as run:
            rows = run.list("rows")
            for n in run.loop(range(8)):
                if n == die_at:
                    raise Dies
                rows.append(random.random() if n > 3 else n)
            return [*rows, random.random()]

    expected = attempt("whole", -1)
    for die_at in (2, 5, 6):
        with pytest.raises(Dies):
            attempt("killed", die_at)
    assert attempt("killed", -1) == expected


def test_checkpoint_that_positions_rest_on_is_not_replaced_by_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "IMAGE_BYTES", 20_000)
    monkeypatch.setattr(ckpt.snapshot.writer.SnapshotWriter.__init__, "__kwdefaults__", {"inline_limit": 1000, "entropy": host.entropy})
    done = []

    def attempt(die_at: int) -> int:
        with ckpt.open("rests", store=tmp_path, every="50it") as run:
            seen = run.dict("seen")
            for n in run.loop(range(200)):
                if n == die_at:
                    raise Dies
                done.append(n)
                seen[n] = "x" * 500
                run._saving.wait_idle()
            return len(seen)

    with pytest.raises(Dies):
        attempt(160)
    newest = max(tmp_path.glob("rests/*/pack/*"), key=lambda path: int(path.stem.split("-")[1]))
    newest.write_bytes(b"")
    with pytest.raises(ckpt.errors.CorruptionError, match="rests on a checkpoint that cannot be used"):
        attempt(-1)
    store = ckpt.Store(tmp_path)
    with pytest.raises(ckpt.errors.LossError, match="give up"):
        store.repair("rests")
    assert store.repair("rests", accept_loss=True).done
    done.clear()
    assert attempt(-1) == 200
    assert min(done) < 160, "it goes on at the older checkpoint"


def test_operations_of_iterations_that_did_not_end_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the log already when the attempt dies, without the position that would make them count."""
    monkeypatch.setattr(journal, "SPILL", 2)

    def block(dies_at: int) -> list[tuple[int, int]]:
        with ckpt.open("spilled", store=tmp_path, every="1000it") as run:
            rows = run.list("rows")
            for n in run.loop(range(6)):
                for part in range(5):
                    rows.append((n, part))
                    if (n, part) == (dies_at, 4):
                        raise KeyError("dies")
            return list(rows)

    for dies_at in (3, 4):
        with pytest.raises(KeyError):
            block(dies_at)
    assert block(-1) == [(n, part) for n in range(6) for part in range(5)]
