"""The fingerprint of a job changes with its behaviour and with nothing else."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from ckpt.capture.fingerprint import changed, fingerprint
from tests.unit.sites_support import module_of

BASE = '''
import functools
LIMIT = 3
def scale(x):
    return shift(x) * 2
def shift(x):
    return x + 1
def unused(x):
    return x
class Model:
    rate: float = 0.1
    def fit(self, x):
        return scale(x) + self.hidden(x)
    def hidden(self, x):
        return deep(x)
    @property
    def size(self):
        return 1
    @staticmethod
    def build():
        return Model()
def deep(x):
    return x - 1
def tabled(x):
    return x
TABLE = {"t": tabled}
@markers.step
def f(steps: int, seed=0):
    total = 0
    for t in markers.loop(range(steps)):
        total += scale(t)
    return Model().fit(total) + TABLE["t"](1)
'''

USED = {"f", "scale", "shift", "deep", "tabled", "Model", "Model.fit", "Model.hidden", "Model.size", "Model.build"}


def prints(text: str, folder: Path | None) -> dict[str, str]:
    return fingerprint(module_of(text, folder)["f"])


def edited(before: str, after: str) -> str:
    assert before in BASE
    return BASE.replace(before, after)


def test_job_and_what_it_uses_of_its_module_are_in_it(tmp_path: Path) -> None:
    assert set(prints(BASE, tmp_path)) == USED


def test_same_code_without_source_names_the_same_functions_but_is_not_compared(tmp_path: Path) -> None:
    with_source, without = prints(BASE, tmp_path), prints(BASE, None)
    assert set(without) == USED - {"Model"}
    assert all(value.startswith(f"bytecode:3.{sys.version_info.minor}:") for value in without.values())
    assert changed(with_source, without) == ()
    assert changed(without, with_source) == ()


NO_CHANGE = [
    ("    total = 0\n", "    # a comment\n\n    total   =  (0)\n"),
    ("    total = 0\n", '    """A docstring."""\n    total = 0\n'),
    ("    return x + 1\n", "\n\n    return (x\n        + 1)\n"),
    ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
    ("LIMIT = 3", "LIMIT = 4"),
]
SOURCE_NO_CHANGE = [
    ("steps: int", "steps: float"),
    ("    total = 0\n", "    total: int = 0\n"),
    ("    total = 0\n", "    total: int\n    total = 0\n"),
    ("def scale(x):", "def scale(x: int) -> int:"),
    ("rate: float", "rate: int"),
    ("class Model:\n", 'class Model:\n    """A docstring."""\n'),
    ("        total += scale(t)\n", "        total += scale(t)\n        # nothing\n"),
]


@pytest.mark.parametrize(("before", "after"), NO_CHANGE)
@pytest.mark.parametrize("with_source", [True, False])
def test_what_is_no_behaviour_is_no_change(tmp_path: Path, before: str, after: str, with_source: bool) -> None:
    folder = tmp_path if with_source else None
    assert changed(prints(BASE, folder), prints(edited(before, after), folder)) == ()


@pytest.mark.parametrize(("before", "after"), SOURCE_NO_CHANGE)
def test_annotations_and_docstrings_are_no_change(tmp_path: Path, before: str, after: str) -> None:
    assert changed(prints(BASE, tmp_path), prints(edited(before, after), tmp_path)) == ()


CHANGES = [
    ("    total = 0\n", "    total = 1\n", ("f",)),
    ("    total = 0\n", "    total = False\n", ("f",)),
    ("    total = 0\n", "    total = 0.0\n", ("f",)),
    ("x + 1", "x + 2", ("shift",)),
    ("def deep(x):\n    return x - 1", "def deep(x):\n    return 1 - x", ("deep",)),
    ("        return 1\n", "        return 2\n", ("Model.size",)),
    ("def tabled(x):\n    return x", "def tabled(x):\n    return -x", ("tabled",)),
    ("return shift(x) * 2", "return x * 2", ("scale", "shift (removed)")),
    ("    total = 0\n", "    total = unused(0)\n", ("f", "unused (added)")),
    ("    total = 0\n", "    total = (lambda: 1)()\n", ("f",)),
]


@pytest.mark.parametrize(("before", "after", "names"), CHANGES)
@pytest.mark.parametrize("with_source", [True, False])
def test_changed_behaviour_is_named(
    tmp_path: Path, before: str, after: str, names: tuple[str, ...], with_source: bool
) -> None:
    folder = tmp_path if with_source else None
    assert changed(prints(BASE, folder), prints(edited(before, after), folder)) == names


def test_class_constants_defaults_and_fields_count(tmp_path: Path) -> None:
    old = prints(BASE, tmp_path)
    assert changed(old, prints(edited("= 0.1", "= 0.2"), tmp_path)) == ("Model",)
    assert changed(old, prints(edited("rate: float", "speed: float"), tmp_path)) == ("Model",)
    assert changed(old, prints(edited("seed=0", "seed=1"), tmp_path)) == ("f",)


def test_options_of_our_decorators_are_no_change_but_other_decorators_are(tmp_path: Path) -> None:
    text = """
    def timed(limit):
        return lambda function: function
    def our(**options):
        return lambda function: function
    our.__ckpt_marker__ = "job"
    @our(every="1s")
    @timed(1)
    def f():
        return 1
    """
    text = textwrap.dedent(text)
    old = prints(text, tmp_path)
    assert set(old) == {"f", "timed"}
    assert changed(old, prints(text.replace("1s", "2s"), tmp_path)) == ()
    assert changed(old, prints(text.replace("timed(1)", "timed(2)"), tmp_path)) == ("f",)


def test_decorated_helpers_and_closures_are_followed(tmp_path: Path) -> None:
    text = textwrap.dedent("""
    import functools
    def noisy(function):
        @functools.wraps(function)
        def wrapper(x):
            return function(x)
        return wrapper
    @noisy
    def inner(x):
        return x
    def make():
        def near(x):
            return inner(x)
        def f(x):
            return near(x)
        return f
    f = make()
    """)
    old = prints(text, tmp_path)
    assert {"make.<locals>.f", "make.<locals>.near", "inner", "noisy"} <= set(old)
    new = prints(text.replace("        return x\n    def", "        return x\n    def").replace("(x):\n    return x", "(x):\n    return -x"), tmp_path)
    assert changed(old, new) == ("inner",)


def test_recursion_ends_and_methods_use_their_class(tmp_path: Path) -> None:
    text = """
    class Job:
        def run(self, n):
            return self.other(n) if n else self.run(n - 1)
        def other(self, n):
            return n
    f = Job.run
    """
    assert set(prints(text, tmp_path)) == {"Job", "Job.run", "Job.other"}


def test_functions_of_other_modules_do_not_count(tmp_path: Path) -> None:
    assert set(prints("import textwrap\nfrom os.path import join\ndef f():\n    return join(textwrap.dedent('a'))\n",
                      tmp_path)) == {"f"}  # fmt: skip


def test_second_fingerprint_parses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt.capture import source

    job = module_of(BASE, tmp_path)["f"]
    first = fingerprint(job)
    monkeypatch.setattr(source, "load", lambda *arguments: pytest.fail("looked at the source again"))
    assert fingerprint(job) == first
