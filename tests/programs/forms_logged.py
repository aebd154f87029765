"""Forms: operation-logged objects, in blocks whose whole state they are, beside other state, and in captured jobs."""

from __future__ import annotations

import random
from typing import Any

from programs.registry import form
from programs.ticks import tick

import ckpt


class Ledger(ckpt.Logged):
    """Accounts; what would overdraw one is refused."""

    def __init__(self, *names: str) -> None:
        self.accounts = dict.fromkeys(names, 0)
        self.posted = 0

    @ckpt.operation
    def post(self, account: str, amount: int, *, notes: list[str]) -> int:
        self.posted += 1  # stays, whether or not the rest is refused
        if self.accounts[account] + amount < 0:
            raise ValueError(f"{account} would be overdrawn")
        self.accounts[account] += amount
        notes.append("posted")  # a copy: the caller's list stays as it is
        return self.accounts[account]


def shown(run: Any) -> list[Any]:
    """All objects of the run, by what they hold."""
    return [dict(run.dict("seen")), list(run.list("rows")), run.counter("hits").value]


@form
def logged_objects_are_the_whole_state() -> object:
    with ckpt.open("whole") as run:
        seen, rows, hits = run.dict("seen"), run.list("rows"), run.counter("hits")
        tick()
        hits.add(100)
        rows.append("begin")
        tick()
        for i in run.loop(range(6)):
            tick()
            seen[f"u{i}"] = i / 3
            rows.append([i])
            tick()
            hits += i
            if i % 3 == 2:
                del seen[f"u{i - 1}"]
                rows.pop(0)
            tick()
        tick()
        hits.add(1000)
        seen["between"] = [hits.value]
        tick()
        for i in run.loop(range(3)):
            tick()
            rows.insert(0, seen.pop(f"u{i * 2}", None))
            tick()
        rows.reverse()
        tick()
        return shown(run)


@form
def logged_objects_in_nested_loops() -> object:
    with ckpt.open("nested") as run:
        rows, hits = run.list("rows"), run.counter("hits")
        for i in run.loop(range(3)):
            tick()
            hits.add()
            for j in run.loop(range(3)):
                tick()
                rows.append((i, j, hits.value))
            rows.append(len(rows))
            tick()
            if i:
                for j in run.loop(range(2)):
                    hits.add(j)
                    tick()
        return shown(run)


@ckpt.job
def counts_words(words: list[str]) -> Any:
    run = ckpt.current_run()
    seen: Any = {} if run is None else run.dict("seen")  # without ckpt an ordinary dict, which is the model
    trail = []
    seen["begin"] = 0
    for round_ in ckpt.loop(range(3)):
        tick()
        sums: Any = [] if run is None else run.list(f"rows {round_}")
        for word in ckpt.loop(words):
            seen[word] = seen.get(word, 0) + round_ + 1
            trail.append(len(seen))
            sums.append(seen[word])
            tick()
        trail.append(list(sums))
        tick()
    return trail, dict(seen)


@form
def logged_objects_in_a_captured_job() -> object:
    return counts_words(["a", "b", "a", "c"])


@form
def logged_objects_beside_a_namespace() -> object:
    with ckpt.open("beside") as run:
        state, rows = run.state(total=0), run.list("rows")
        for i in run.loop(range(6)):
            tick()
            state.total += i
            rows.append(state.total)
            tick()
        return state.total, shown(run)


@form
def logged_objects_without_loops() -> object:
    with ckpt.open("straight") as run:
        rows, hits = run.list("rows"), run.counter("hits")
        tick()
        while len(rows) < 5:  # it goes on by what the objects say
            tick()
            rows.append(len(rows) * 10)
            hits.add()
            run.checkpoint()
            tick()
        return shown(run)


@form
def a_logged_list_that_its_loop_makes_longer() -> object:
    with ckpt.open("frontier") as run:
        frontier, seen = run.list("rows"), run.dict("seen")
        frontier.append(1)
        for number in run.loop(frontier):
            tick()
            seen[number] = len(frontier)
            if number < 8:
                frontier.extend([number * 2, number * 2 + 1])
            tick()
        return shown(run)


@form
def logged_objects_with_random_numbers_and_other_inputs() -> object:
    random.seed(3)
    with ckpt.open("mixed") as run:
        rows, hits = run.list("rows"), run.counter("hits")
        for i in run.loop(range(4)):
            rows.append(random.random() if i % 2 else i)
            tick()
        for number, letter in run.loop(enumerate("abcd")):
            rows.append(f"{letter}{number}")
            tick()
            if number == 2:
                hits.add(7)
                break
        for name in run.loop(["x", "y", "z"], key=str):
            tick()
            rows.append(name)
            hits.add()
            tick()
        for item in run.loop(n * n for n in range(4)):
            rows.append(item)
            tick()
        return shown(run), random.random()


@form
def a_ledger_of_the_programs_own() -> object:
    refused = []
    with ckpt.open("ledger") as run:
        ledger, hits = run.logged(Ledger, "ledger", "ann", "bob"), run.counter("hits")
        notes = ["mine"]
        for i in run.loop(range(8)):
            tick()
            try:
                ledger.post("ann" if i % 2 else "bob", 5 - 3 * i, notes=notes)
            except ValueError as error:
                hits.add()
                refused.append(str(error))
            tick()
        return ledger.accounts, ledger.posted, notes, shown(run)


@form
def logged_objects_under_an_unmarked_loop() -> object:
    with ckpt.open("unmarked") as run:
        rows, turn = run.list("rows"), run.counter("hits")
        while turn.value < 3:
            turn += 1
            for i in run.loop(range(turn.value)):
                rows.append((turn.value, i))
                tick()
            tick()
            rows.append(turn.value)
        return shown(run)


def fills(rows: Any, hits: Any, turn: int) -> None:
    for value in ckpt.loop(range(3)):
        tick()
        rows.append((turn, value))
        hits.add(value)


@ckpt.job(key="1")
def hands_logged_objects_to_a_helper() -> Any:
    run = ckpt.current_run()
    assert run is not None
    rows, hits = run.list("rows"), run.counter("hits")
    for turn in ckpt.loop(range(3)):
        tick()
        fills(rows, hits, turn)
    return list(rows), int(hits)


@form
def logged_objects_given_to_a_helper_with_the_loop() -> object:
    return hands_logged_objects_to_a_helper()
