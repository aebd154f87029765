"""Code that cannot be resumed exactly is refused at decoration, with its line and the fix, with and without source."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt.capture.sites import check_frame_code, check_job
from ckpt.errors import UnsupportedCodeError
from tests.unit.sites_support import module_of

TOP = """
import functools, itertools
from itertools import islice
from collections import deque
def helper(xs):
    for x in xs: pass
class Window:
    def __init__(self, xs): self.xs = xs
"""

REFUSED = [
    "for x in enumerate(markers.loop(xs)): pass",
    "for x in zip(markers.loop(xs), xs): pass",
    "for x in zip(xs, markers.loop(xs)): pass",
    "for x in map(str, markers.loop(xs)): pass",
    "for x in filter(None, markers.loop(xs)): pass",
    "for x in islice(markers.loop(xs), 3): pass",
    "for x in itertools.chain(markers.loop(xs), xs): pass",
    "for x in itertools.chain.from_iterable(markers.loop(xs)): pass",
    "for x in reversed(markers.loop(xs)): pass",
    "for x in iter(markers.loop(xs)): pass",
    "x = next(markers.loop(xs))",
    "x = list(markers.loop(xs))",
    "x = tuple(markers.loop(xs))",
    "x = sum(markers.loop(xs))",
    "x = sorted(markers.loop(xs))",
    "x = dict(markers.loop(xs))",
    "x = set(markers.loop(xs))",
    "x = min(markers.loop(xs), default=0)",
    "x = any(markers.loop(xs))",
    "x = ''.join(markers.loop(xs))",
    "x = deque(markers.loop(xs))",
    "x = functools.reduce(max, markers.loop(xs))",
    "x = []\n    x.extend(markers.loop(xs))",
    "x = [*markers.loop(xs)]",
    "x = {*markers.loop(xs)}",
    "print(*markers.loop(xs))",
    "a, b = markers.loop(xs)",
    "a, *b = markers.loop(xs)",
    "if 3 in markers.loop(xs): pass",
    "x = [y for y in markers.loop(xs)]",
    "x = {y for y in markers.loop(xs)}",
    "x = {y: y for y in markers.loop(xs)}",
    "x = sum(y for y in markers.loop(xs))",
    "x = [y for z in xs for y in markers.loop(z)]",
    "x = {z: helper(markers.loop(z)) for z in xs}",
    "x = [helper(markers.loop(z)) for z in xs]",
    "x = list(helper(markers.loop(z)) for z in xs)",
    "it = markers.loop(xs)\n    for x in enumerate(it): pass",
    "it = markers.loop(xs)\n    x = [y for y in it]",
    "for x in markers.loop({1, 2}): pass",
    "for x in markers.loop(set(xs)): pass",
    "for x in markers.loop(frozenset(xs)): pass",
    "for x in markers.loop(markers.loop(xs)): pass",
    "for x in Window(markers.loop(xs)): pass",
    "with markers.open('n') as run:\n        for x in enumerate(run.loop(xs)): pass",
    "def inner():\n        for x in enumerate(markers.loop(xs)): pass",
    "def inner():\n        for x in markers.loop(xs):\n            yield x",
    "def inner():\n        yield from markers.loop(xs)",
    "async def inner():\n        for x in markers.loop(xs):\n            yield x",
    "async def inner():\n        async for x in markers.loop(xs):\n            yield x",
    "async def inner():\n        x = [y async for y in markers.loop(xs)]",
    "async def inner():\n        x = {y: 1 async for y in markers.loop(xs) if y}",
    "async def inner():\n        x = await xs(y async for y in markers.loop(xs))",
    "async def inner():\n        async for x in enumerate(markers.loop(xs)): pass",
    "async def inner():\n        async for x in aiter(markers.loop(xs)): pass",
    "async def inner():\n        x = await anext(markers.loop(xs))",
    "async def inner():\n        x = [await markers.loop(y) for y in xs]",
    "g = lambda: list(markers.loop(xs))",
    "L = markers.loop\n    for x in enumerate(L(xs)): pass",
    "from markers import loop as L\n    for x in enumerate(L(xs)): pass",
    "if xs:\n        return None\n    try:\n        pass\n    except ValueError:\n        x = [y for y in markers.loop(xs)]",
    "with markers.open('n') as run:\n        x = [run.checkpoint() for y in xs]",
    "for x in enumerate(markers.loop(xs), start=1): pass",
    "for x in enumerate(markers.loop(xs, name='n')): pass",
    "for x in enumerate(markers.loop(*xs)): pass",
    "for x in enumerate((n := markers.loop(xs))): pass",
]

SOURCE_ONLY = ["x = {y for y in [1]}\n    for x in markers.loop({y for y in xs}): pass"]


@pytest.mark.parametrize("with_source", [True, False])
@pytest.mark.parametrize("body", REFUSED)
def test_inexact_use_of_a_marked_loop_is_refused(tmp_path: Path, body: str, with_source: bool) -> None:
    text = f"{TOP}def f(xs=()):\n    {body}\n"
    function = module_of(text, tmp_path if with_source else None)["f"]
    with pytest.raises(UnsupportedCodeError) as refused:
        check_job(function)
    assert refused.value.fix
    file, _, line = refused.value.where.rpartition(" in ")[0].rpartition(":")
    first = function.__code__.co_firstlineno
    assert file == function.__code__.co_filename
    assert first < int(line) <= first + body.count("\n") + 1


@pytest.mark.parametrize("body", SOURCE_ONLY)
def test_set_comprehension_as_input_is_refused_with_source(tmp_path: Path, body: str) -> None:
    with pytest.raises(UnsupportedCodeError, match="order of a set"):
        check_job(module_of(f"def f(xs=()):\n    {body}\n", tmp_path)["f"])


ALLOWED = [
    "for x in markers.loop(enumerate(xs)): pass",
    "for x in markers.loop(sorted(set(xs))): pass",
    "for x in markers.loop([y for y in xs]): pass",
    "for x in markers.loop(list(zip(xs, xs))):\n        y = [*xs, x]\n        z = {y: [w for w in xs] for y in xs}",
    "it = markers.loop(xs)\n    for x in it: pass",
    "for x in tqdm(markers.loop(xs), total=3, desc='d'): pass",
    "for x in tqdm(iterable=markers.loop(xs)): pass",
    "import tqdm as t\n    for x in t.tqdm(markers.loop(xs)): pass",
    "from rich.progress import track as tr\n    for x in tr(markers.loop(xs)): pass",
    "for x in helper(markers.loop(xs)) or (): pass",
    "for x in markers.loop(xs):\n        y = [markers.step(len)(w) for w in xs]",
    "y = [markers.step(len)(w) for w in xs]\n    z = list(markers.step(len)(w) for w in xs)",
    "for x in enumerate(xs):\n        for y in markers.loop(xs): pass",
    "x = [y for y in xs]\n    for y in markers.loop(xs):\n        x = [z for z in xs]",
    "def inner():\n        for x in markers.loop(xs): pass\n    inner()",
    "async def inner():\n        for x in markers.loop(xs):\n            await xs(x)",
    "async def inner():\n        async for x in markers.loop(xs):\n            y = [z async for z in xs]",
    "async def inner():\n        async with xs as y, xs:\n            async for x in markers.loop(y): break",
    "async def inner():\n        async for x in xs:\n            async for y in markers.loop(x):\n                await y",
    "x = 1 if markers.loop else 2\n    print(markers.loop)",
    "with markers.open('n') as run:\n        for x in run.loop(xs):\n            run.checkpoint()",
    "try:\n        for x in markers.loop(xs): pass\n    except ValueError as e:\n        print([*xs], e)",
    "try:\n        for x in markers.loop(xs): pass\n    finally:\n        for y in xs: print(sum(xs))",
    "while True:\n        for x in markers.loop(xs):\n            if x: continue\n            break\n        if xs: break",
    "match xs:\n        case [1, *rest]:\n            for x in markers.loop(rest): pass\n        case _:\n            pass",
]


@pytest.mark.parametrize("with_source", [True, False])
@pytest.mark.parametrize("body", ALLOWED)
def test_exact_use_of_a_marked_loop_is_allowed(tmp_path: Path, body: str, with_source: bool) -> None:
    text = f"{TOP}from tqdm import tqdm\ndef f(xs=()):\n    {body}\n"
    check_job(module_of(text, tmp_path if with_source else None)["f"])


FIXES = [
    ("for i, x in enumerate(markers.loop(xs), 1): pass", "markers.loop(enumerate(xs, 1))"),
    ("for x in zip(xs, markers.loop(xs, name='n')): pass", "markers.loop(zip(xs, xs), name='n')"),
    ("for x in markers.loop(set(xs), name='n'): pass", "markers.loop(sorted(xs), name='n')"),
    ("for x in markers.loop({1, 2}): pass", "markers.loop(sorted({1, 2}))"),
    ("x = list(markers.loop(xs))", "for item in"),
]


@pytest.mark.parametrize(("body", "fix"), FIXES)
def test_refusal_shows_the_line_to_write(tmp_path: Path, body: str, fix: str) -> None:
    with pytest.raises(UnsupportedCodeError) as refused:
        check_job(module_of(f"def f(xs=()):\n    {body}\n", tmp_path)["f"])
    assert fix in refused.value.fix


@pytest.mark.parametrize("head", ["async def f(xs):\n    yield 1", "def f(xs):\n    yield 1"])
def test_job_that_does_not_run_when_called_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(UnsupportedCodeError, match="is a generator"):
        check_job(module_of(head + "\n", tmp_path)["f"])


def test_job_that_is_no_python_function_is_refused() -> None:
    with pytest.raises(UnsupportedCodeError, match="Python function"):
        check_job(len)


@pytest.mark.parametrize("with_source", [True, False])
def test_function_under_another_decorator_is_checked_too(tmp_path: Path, with_source: bool) -> None:
    text = """
    import functools
    def timed(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)
        return wrapper
    @timed
    def f(xs):
        return list(markers.loop(xs))
    """
    with pytest.raises(UnsupportedCodeError):
        check_job(module_of(text, tmp_path if with_source else None)["f"])


def test_marker_in_a_closure_is_seen(tmp_path: Path) -> None:
    text = """
    def make():
        hidden = markers.loop
        def f(xs):
            return list(hidden(xs))
        return f
    f = make()
    """
    for folder in (tmp_path, None):
        with pytest.raises(UnsupportedCodeError):
            check_job(module_of(text, folder)["f"])


def test_helper_is_checked_when_it_is_reached(tmp_path: Path) -> None:
    helper = module_of("def f(xs):\n    return list(markers.loop(xs))\n", tmp_path)["f"]
    with pytest.raises(UnsupportedCodeError):
        check_frame_code(helper.__code__, helper.__globals__)


def test_no_property_and_no_call_runs_while_checking(tmp_path: Path) -> None:
    text = """
    class Trap:
        @property
        def loop(self): raise AssertionError("a property ran")
        def __getattr__(self, name): raise AssertionError("__getattr__ ran")
        def __eq__(self, other): raise AssertionError("__eq__ ran")
        __hash__ = None
    trap = Trap()
    def boom(*args): raise AssertionError("a call ran")
    def f(xs):
        for x in trap.loop(xs): pass
        for x in boom(trap.other.loop)(xs): pass
        for x in boom(markers.loop(xs)): pass
        for x in trap(markers.loop(xs)) if boom() else boom(): pass
    """
    for folder in (tmp_path, None):
        with pytest.raises(UnsupportedCodeError, match=r"used up|uses the marked loop up"):
            check_job(module_of(text, folder)["f"])
