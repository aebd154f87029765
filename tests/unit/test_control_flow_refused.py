"""Code that cannot be resumed exactly is refused at decoration: with the line, what is wrong, and the fix."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

from ckpt.errors import UnsupportedCodeError

_numbers = itertools.count()

HEAD = """\
import itertools
import itertools as it
from itertools import islice
import ckpt
from ckpt import loop

"""


def load(folder: Path, body: str) -> ModuleType:
    """Import ``body`` behind HEAD as a module of its own; the line of ``# HERE`` is what an error has to name."""
    path = folder / f"refused_{next(_numbers)}.py"
    path.write_text(HEAD + textwrap.dedent(body))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def line_of(folder: Path, mark: str = "# HERE") -> int:
    newest = max(folder.glob("refused_*.py"), key=lambda path: path.stat().st_mtime_ns)
    return 1 + next(i for i, line in enumerate(newest.read_text().splitlines()) if mark in line)


WRAPPED = {
    "enumerate": "for i, x in enumerate(ckpt.loop(xs)):  # HERE",
    "enumerate from": "for i, x in enumerate(ckpt.loop(xs), start=1):  # HERE",
    "zip": "for x, y in zip(ckpt.loop(xs), xs):  # HERE",
    "zip second": "for x, y in zip(xs, ckpt.loop(xs)):  # HERE",
    "map": "for x in map(str, ckpt.loop(xs)):  # HERE",
    "filter": "for x in filter(None, ckpt.loop(xs)):  # HERE",
    "islice": "for x in islice(ckpt.loop(xs), 3):  # HERE",
    "itertools.islice": "for x in itertools.islice(ckpt.loop(xs), 3):  # HERE",
    "itertools as it": "for x in it.chain(ckpt.loop(xs), xs):  # HERE",
    "reversed of list": "for x in reversed(list(ckpt.loop(xs))):  # HERE",
    "imported loop": "for i, x in enumerate(loop(xs)):  # HERE",
    "nested wrapper": "for i, x in enumerate(sorted(ckpt.loop(xs))):  # HERE",
    "inside tqdm": "for i, x in tqdm(enumerate(ckpt.loop(xs))):  # HERE",
}


@pytest.mark.parametrize("line", WRAPPED.values(), ids=WRAPPED.keys())
def test_position_keeping_wrappers_around_a_marked_loop_are_refused(line: str, tmp_path: Path) -> None:
    body = f"""
        @ckpt.job
        def job(xs, tqdm=None):
            total = 0
            {line}
                total += 1
            return total
        """
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, body)
    assert f"{line_of(tmp_path)}" in str(caught.value), "the line"
    assert "job" in str(caught.value)
    assert caught.value.fix, "the fix"
    assert "ckpt.loop(" in caught.value.fix or "outermost" in caught.value.fix


COMPREHENSIONS = {
    "list": "ys = [x + 1 for x in ckpt.loop(xs)]  # HERE",
    "set": "ys = {x for x in ckpt.loop(xs)}  # HERE",
    "dict": "ys = {x: 1 for x in ckpt.loop(xs)}  # HERE",
    "generator": "ys = sum(x for x in ckpt.loop(xs))  # HERE",
    "inner": "ys = [y for x in xs for y in ckpt.loop(x)]  # HERE",
    "condition": "ys = [x for x in xs if any(y for y in ckpt.loop(x))]  # HERE",
    "call": "ys = list(ckpt.loop(xs))  # HERE",
    "sum": "ys = sum(ckpt.loop(xs))  # HERE",
    "star": "ys = [*ckpt.loop(xs)]  # HERE",
}


@pytest.mark.parametrize("line", COMPREHENSIONS.values(), ids=COMPREHENSIONS.keys())
def test_marked_loops_that_live_on_the_stack_are_refused(line: str, tmp_path: Path) -> None:
    body = f"""
        @ckpt.job
        def job(xs):
            {line}
            return ys
        """
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, body)
    assert f"{line_of(tmp_path)}" in str(caught.value), "the line"
    assert caught.value.fix


def test_wrapper_in_a_helper_of_the_module_is_refused_before_an_item_is_lost(tmp_path: Path) -> None:
    body = """
        seen = []

        def helper(xs):
            for i, x in enumerate(ckpt.loop(xs)):  # HERE
                seen.append((i, x))

        @ckpt.job
        def job(xs):
            helper(xs)
        """
    modules = []

    def decorate_and_call() -> None:
        modules.append(load(tmp_path, body))
        modules[0].job.options(store=str(tmp_path / "store"))([1, 2, 3])

    with pytest.raises(UnsupportedCodeError) as caught:
        decorate_and_call()
    assert f"{line_of(tmp_path)}" in str(caught.value)
    assert all(module.seen == [] for module in modules)


def test_marked_loop_in_a_generator_is_refused_before_an_item_is_lost(tmp_path: Path) -> None:
    body = """
        def produce(xs):
            for x in ckpt.loop(xs):  # HERE
                yield x

        @ckpt.job
        def job(xs, seen):
            for x in produce(xs):
                seen.append(x)
        """
    module, seen = load(tmp_path, body), []
    with pytest.raises(UnsupportedCodeError) as caught:
        module.job.options(store=str(tmp_path / "store"))([1, 2, 3], seen)
    assert f"{line_of(tmp_path)}" in str(caught.value)
    assert "ckpt.loop(" in caught.value.fix
    assert seen == []


def test_rebinding_a_global_is_refused_because_globals_are_not_part_of_the_state(tmp_path: Path) -> None:
    body = """
        count = 0

        @ckpt.job
        def job(xs):
            global count
            for x in ckpt.loop(xs):
                count += x  # HERE
            return count
        """
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, body)
    assert "count" in str(caught.value)
    assert caught.value.fix


def test_async_generator_functions_as_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, "@ckpt.job\nasync def job(xs):  # HERE\n    yield xs\n")
    assert caught.value.fix


def test_generator_functions_as_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, "@ckpt.job\ndef job(xs):  # HERE\n    yield xs\n")
    assert caught.value.fix


ACCEPTED = {
    "enumerate inside": "for i, x in ckpt.loop(enumerate(xs)):",
    "zip inside": "for i, x in ckpt.loop(zip(xs, xs)):",
    "named": "for x in ckpt.loop(xs, name='rows'):",
    "imported loop": "for x in loop(xs):",
    "comprehension inside": "for x in ckpt.loop([2 * x for x in xs]):",
    "enumerate of another loop": "for i, x in enumerate(xs):",
    "sorted inside": "for x in ckpt.loop(sorted(set(xs))):",
}


@pytest.mark.parametrize("line", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_what_can_be_resumed_is_accepted(line: str, tmp_path: Path) -> None:
    body = f"""
        @ckpt.job
        def job(xs):
            count = 0
            {line}
                count += 1
            return count
        """
    module = load(tmp_path, body)
    assert module.job.options(store=str(tmp_path / "store"))([3, 1, 2]) == 3


SET_JOB = """
    @ckpt.job
    def job(xs):
        for x in ckpt.loop({}):
            pass
    """


def test_loop_over_a_set_in_the_source_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCodeError) as caught:
        load(tmp_path, SET_JOB.format("set(xs)"))
    assert f"{line_of(tmp_path, 'ckpt.loop')}" in str(caught.value)
    assert "ckpt.loop(sorted(xs))" in caught.value.fix


@pytest.mark.parametrize("items", [{"a", "b"}, frozenset({"a", "b"}), {"a": 1}.keys() | {"b"}])
def test_loop_over_what_turns_out_to_be_a_set_is_refused_with_the_fix(items: object, tmp_path: Path) -> None:
    module = load(tmp_path, SET_JOB.format("xs"))
    with pytest.raises(UnsupportedCodeError) as caught:
        module.job.options(store=str(tmp_path / "store"))(items)
    assert "sorted" in str(caught.value)


def test_outside_a_job_a_marked_loop_is_plain_iteration() -> None:
    import ckpt

    assert [x for x in ckpt.loop("abc")] == ["a", "b", "c"]
    assert ckpt.step(len)("abcd") == 4
    assert ckpt.current_run() is None
