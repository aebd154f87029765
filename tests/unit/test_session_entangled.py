"""Inputs that the code makes again: refused where they hold what a variable leads to as well, and exact where they do not."""

from __future__ import annotations

import asyncio
import csv
import functools
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tqdm import tqdm
from unit.capture_support import attempt, check_resumed, tick

import ckpt
from ckpt.capture import sharing
from ckpt.capture.sharing import Variables, are_apart, is_alone, shared_with
from ckpt.errors import UnsupportedCodeError

LOG = logging.getLogger(__name__)


class Rows:
    """Iterable again and again, not an iterator."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Walk:
    def __init__(self, deep: Any) -> None:
        self.deep, self.at = deep, -1

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.at += 1
        try:
            return self.deep[0][0][0][0].rows[self.at]
        except IndexError:
            raise StopIteration from None


def each(rows: Any) -> Iterator[Any]:
    yield from rows


def closure(rows: list[Any]) -> Any:
    def walk() -> Iterator[Any]:
        yield from rows

    return walk()


def closure_of_a_closure(rows: list[Any]) -> Any:
    def give() -> list[Any]:
        return rows

    def walk() -> Iterator[Any]:
        yield from give()

    return walk()


def default(rows: list[Any]) -> Any:
    def walk(given: list[Any] = rows) -> Iterator[Any]:
        yield from given

    return walk()


def keyword_default(rows: list[Any]) -> Any:
    return map(functools.partial(lambda n, *, given: given[n], given=rows), itertools.islice(range(3), 3))


MADE: dict[str, Callable[[list[Any]], Any]] = {
    "closure": closure,
    "closure of a closure": closure_of_a_closure,
    "default": default,
    "partial": keyword_default,
    "argument": each,
    "expression": lambda rows: (row for row in rows),
    "method": lambda rows: each(Rows(rows).rows),
    "generators in generators": lambda rows: each(each(each(each(each(each(rows)))))),
    "islice": lambda rows: itertools.islice(itertools.chain(itertools.chain(itertools.chain(rows))), 9),
    "accumulate": lambda rows: itertools.accumulate(itertools.starmap(lambda *a: a[0], zip(rows)), lambda _, b: b),  # noqa: RUF058
    "an item of it": lambda rows: each(({"row": rows[1]}, {"row": rows[0]})),
    "object": lambda rows: Walk([[[[Rows(rows)]]]]),
    "iterable object": Rows,
    "progress bar": tqdm,
    "namespace": lambda rows: each(SimpleNamespace(rows=rows).rows),
}  # fmt: skip


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_input_that_holds_what_a_variable_leads_to_is_refused_by_name(made: Callable[[Any], Any], scratch: Path) -> None:
    @ckpt.job
    def direct() -> Any:
        rows: list[Any] = [[1], [2], [3]]
        for row in ckpt.loop(made(rows)):
            assert len(rows) < 9, "it goes on and on"
            rows.append(row)
            tick()

    @ckpt.job
    def further_off() -> Any:
        table = {"rows": [[1], [2], [3]]}
        for row in ckpt.loop(made(table["rows"])):
            assert len(table["rows"]) < 9, "it goes on and on"
            table["rows"].append(row)
            tick()

    for job, name in ((direct, "rows"), (further_off, "table")):
        with pytest.raises(UnsupportedCodeError, match=f"works on variable '{name}'") as refused:
            attempt(job, (), scratch / "store")
        assert name in refused.value.fix
        assert "line" in refused.value.where


def test_iterators_arrays_and_their_views_are_recognised(scratch: Path) -> None:
    @ckpt.job
    def spent() -> Any:
        numbers = iter([1, 2, 3, 4])
        for number in ckpt.loop(2 * one for one in numbers):
            tick()
            next(numbers, number)

    @ckpt.job
    def flat() -> Any:
        table = np.zeros(4)
        for _ in ckpt.loop(table.flat):
            tick()
            table += 1

    @ckpt.job
    def view() -> Any:
        table = np.zeros(4)
        for _ in ckpt.loop(one for one in table[1:]):
            tick()
            table += 1

    @ckpt.job
    def by_key() -> Any:
        rows = [[1], [2]]
        for row in ckpt.loop(Rows(rows), key=len):
            tick()
            row.append(1)

    for job, name in ((spent, "numbers"), (flat, "table"), (view, "table"), (by_key, "rows")):
        with pytest.raises(UnsupportedCodeError, match=f"works on variable '{name}'"):
            attempt(job, (), scratch / "store")


def test_async_input_that_holds_what_a_variable_leads_to_is_refused_by_name(scratch: Path) -> None:
    @ckpt.job
    async def job() -> None:
        rows: list[Any] = [[1], [2], [3]]

        async def walk() -> AsyncIterator[Any]:
            for row in rows:
                yield row

        async def around(given: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for row in given:
                yield row

        async for row in ckpt.loop(around(around(around(walk())))):
            assert len(rows) < 9, "it goes on and on"
            rows.append(row)

    with pytest.raises(UnsupportedCodeError, match="works on variable 'rows'"):
        asyncio.run(job.options(store=str(scratch / "store"), every="1it")())


def test_input_that_holds_what_the_state_of_a_block_leads_to_is_refused_by_name(scratch: Path) -> None:
    def block(made: Callable[[Any], Any]) -> None:
        with ckpt.open("block", store=str(scratch / "store")) as run:
            state = run.state(table={"rows": [[1], [2], [3]]})
            for row in run.loop(made(state.table["rows"])):
                row.append(1)

    for made in (each, Rows, lambda rows: (row for row in rows)):
        with pytest.raises(UnsupportedCodeError, match=r"works on variable 'state\.table'") as refused:
            block(made)
        assert "recreate" not in refused.value.fix


# -- what is exact stays allowed ------------------------------------------------------------------------------------

SETTINGS = {"by": 2}


def scaled(rows: Any, by: dict[str, int]) -> Iterator[Any]:
    for row in rows:
        yield by["by"] * int(row)


@ckpt.step
def doubled(row: Any) -> Any:
    return 2 * row


def test_inputs_that_share_nothing_which_can_change_are_exact(scratch: Path) -> None:
    @ckpt.job
    def job() -> Any:
        seen: list[Any] = []
        settings, log, twice, names, deep = SETTINGS, LOG, doubled, ("a", "b"), ((1, 2), ("x",))
        state = {"rows": [[1], [2]], "log": log, "step": twice}
        for row in ckpt.loop(scaled([1, 2, 3], settings)):
            seen.append(row)
            tick()

        def small(rows: Any) -> Iterator[Any]:
            for row in rows:
                log.debug("a row")
                yield twice(row), names[row % 2], deep[0]

        for one in ckpt.loop(small(range(3))):
            seen.append(one)
            tick()
        for letter, kept in ckpt.loop(zip("abc", state["rows"] * 2)):  # noqa: B905
            kept.append(letter)
            tick()
        return seen, state["rows"]

    check_resumed(job, scratch / "store")


class Source:
    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.kind = folder, logging.getLogger("etl.source"), np.dtype("f4")

    def __iter__(self) -> Iterator[Any]:
        for path in sorted(self.folder.glob("r*.py")):
            self.log.debug("a file")
            yield path.name, self.kind.name


def test_values_and_what_belongs_to_the_process_are_no_reason_to_refuse(scratch: Path) -> None:
    @ckpt.job
    def job(at: str) -> Any:
        seen: list[Any] = []
        root, pattern, kind, log = Path(at), re.compile("[abc]"), np.dtype("f4"), logging.getLogger("etl.job")
        for path in ckpt.loop(root.rglob("r*.py")):
            log.debug("a file")
            seen.append(bool(pattern.match(path.name)))
            tick()
        for one in ckpt.loop(Source(root)):
            log.debug("a file")
            seen.append((one, kind.name))
            tick()
        return sorted(map(str, seen))

    check_resumed(job, scratch / "store", lambda: (str(Path(ckpt.__file__).parent / "store"),))


def test_inputs_of_libraries_are_no_reason_to_refuse(scratch: Path) -> None:
    path = scratch / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n5,6\n")

    @ckpt.job
    def job() -> Any:
        seen: list[Any] = []
        for row in ckpt.loop(csv.DictReader(path.read_text().splitlines())):
            seen.append(row)
            tick()
        for number in ckpt.loop(tqdm(range(3), disable=True)):
            seen.append(number)
            tick()
        for found in ckpt.loop(path.parent.glob("*.csv")):
            seen.append(found.name)
        for fresh in ckpt.loop(each([[1], [2], [3]])):
            fresh.append(len(seen))
            seen.append(fresh)
            tick()
        return seen

    check_resumed(job, scratch / "store")


def test_what_recreate_names_and_what_the_caller_holds_may_be_worked_on(scratch: Path) -> None:
    @ckpt.job(recreate=("table",))
    def job(given: list[Any]) -> Any:
        table, seen = {"a": [1]}, []
        inner = given[0]
        for row in ckpt.loop([*one, *table["a"]] for one in given):
            inner.append(len(row))
            seen.append(row)
            tick()
        return seen

    check_resumed(job, scratch / "store", lambda: ([[1], [2], [3], [4]],))


def test_what_functions_of_the_caller_work_on_is_put_back_in_place(scratch: Path) -> None:
    def make() -> tuple[Any, ...]:
        rows: list[Any] = [[1], [2], [3]]

        def push(row: Any) -> None:
            rows.append(row)

        def walk() -> Iterator[Any]:
            yield from rows

        return push, walk

    @ckpt.job(key=lambda push, walk: "rows")
    def job(push: Any, walk: Any) -> Any:
        seen: list[Any] = []
        for number in ckpt.loop(range(3)):
            push([number])
            tick()
            seen.append(sum(map(len, walk())))
        for row in ckpt.loop(walk()):
            row.append(len(seen))
            tick()
            seen.append([*row])
        return seen

    check_resumed(job, scratch / "store", make, lambda arguments, result: (list(arguments[1]()), result))


# -- how it is told -------------------------------------------------------------------------------------------------


def nothing_stays(value: Any) -> bool:
    return False


def told(iterable: Any, **variables: Any) -> str | None:
    names, values = [*variables], [*variables.values()]
    variables.clear()
    return shared_with(iterable, lambda: Variables(names, values, [0] * len(names)), nothing_stays)


def test_a_million_items_that_cannot_change_are_not_counted() -> None:
    def read() -> Variables:
        raise AssertionError("nobody has to look at the variables")

    for make in (lambda: list(range(1_000_000)), lambda: [(n, str(n)) for n in range(1_000_000)]):
        alone = each(make())  # not in an assert statement: pytest would hold the list
        assert shared_with(alone, read, nothing_stays) is None
    out: list[Any] = []
    iterable = each([[n] for n in range(300_000)])
    assert shared_with(iterable, lambda: Variables(["out"], [out], [2]), nothing_stays) is None  # here and in the cell


def test_too_many_objects_to_tell_count_as_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SMALL", 50)
    monkeypatch.setattr(sharing, "LIMIT", 500)
    row: list[Any] = [1]
    many: list[Any] = [[n] for n in range(400)]
    assert told(each([*many]), row=row) is None
    assert told(each([*many, row]), row=row) == "row"
    assert told(each([*many]), table={"many": many}) == "table"
    more: list[Any] = [[n] for n in range(1000)]
    assert told(each([*more]), row=row) == ""
    assert told(each([row]), table=more) == ""
    alone = each([1])
    assert told(alone, table=more) is None


def test_what_nobody_else_holds_is_seen_by_its_references() -> None:
    row: list[Any] = [1]
    assert are_apart([[1], {"a": [2]}, ("a", 1), 5, "text", (1, ([2],))])
    for shared in ([row], [[row]], [{"a": (row,)}], [[1], Rows(row)]):
        assert not are_apart(shared)
    alone = np.arange(6).reshape(2, 3)
    assert is_alone(alone)
    table = np.zeros(3)
    assert not is_alone(table[1:])


def test_refusal_says_that_it_cannot_be_told(monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
    monkeypatch.setattr(sharing, "SMALL", 50)
    monkeypatch.setattr(sharing, "LIMIT", 500)

    @ckpt.job
    def job() -> None:
        table = {"rows": [[n] for n in range(1000)]}
        for _ in ckpt.loop(each([[n] for n in range(1000)])):
            table["rows"].pop()

    with pytest.raises(UnsupportedCodeError, match="so many objects") as refused:
        attempt(job, (), scratch / "store")
    assert "ckpt.loop(list(...))" in refused.value.fix
