"""Sites of running frames: names, labels and the two shortcuts."""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

import pytest

from ckpt.capture import sites, source
from ckpt.errors import UnsupportedCodeError
from tests.unit.sites_support import module_of, seen, sites_of

TWO_LOOPS = """
def f():
    for epoch in markers.loop(range(2)):
        for batch in markers.loop(range(1)):
            pass
"""


def test_sites_are_numbered_in_source_order(tmp_path: Path) -> None:
    found = sites_of(TWO_LOOPS, tmp_path)
    assert [site.name for site in found] == ["f#0", "f#1", "f#1"]
    assert [site.label for site in found] == ["epoch", "batch", "batch"]
    assert [site.line for site in found] == [4, 5, 5]


def test_sites_without_source_are_numbered_and_have_no_shortcuts() -> None:
    found = sites_of(TWO_LOOPS, None)
    assert [site.name for site in found] == ["f#0", "f#1", "f#1"]
    assert not any(site.ends_plainly or site.collapsible for site in found)
    assert [site.line for site in found] == [4, 5, 5]


@pytest.mark.parametrize("with_source", [True, False])
def test_sites_are_stable_under_comments_docstrings_and_blank_lines(tmp_path: Path, with_source: bool) -> None:
    changed = '''
    def f():
        """Says something new."""

        # a comment
        for epoch in markers.loop(range(2)):  # another

            for batch in markers.loop(
                range(1),
            ):
                pass
    '''
    folder = tmp_path if with_source else None
    assert [site.name for site in sites_of(changed, folder)] == [site.name for site in sites_of(TWO_LOOPS, folder)]


@pytest.mark.parametrize("with_source", [True, False])
def test_other_marked_calls_do_not_shift_ordinals_but_checkpoints_count(tmp_path: Path, with_source: bool) -> None:
    text = """
    def f():
        markers.step(len)([1])
        markers.checkpoint()
        for x in markers.loop([1]):
            pass
    """
    found = sites_of(text, tmp_path if with_source else None)
    assert [(site.name, site.kind) for site in found] == [("f#0", "checkpoint"), ("f#1", "loop")]


ALIASES = [
    ("from markers import loop as L", "for x in L([1]): pass"),
    ("import markers as m", "for x in m.loop([1]): pass"),
    ("pass", "import markers as inner\n    for x in inner.loop([1]): pass"),
    ("pass", "from markers import loop as L\n    for x in L([1]): pass"),
    ("pass", "L = markers.loop\n    for x in L([1]): pass"),
    ("import functools\nL = functools.partial(markers.loop, name='n')", "for x in L([1]): pass"),
    ("pass", "with markers.open('a') as run:\n        for x in run.loop([1]): pass"),
    ("pass", "run = markers.current_run()\n    for x in run.loop([1]): pass"),
    ("run = markers.Run()", "for x in run.loop([1]): pass"),
]


@pytest.mark.parametrize("with_source", [True, False])
@pytest.mark.parametrize(("top", "body"), ALIASES)
def test_marker_is_seen_under_any_alias(tmp_path: Path, top: str, body: str, with_source: bool) -> None:
    text = f"{top}\ndef f():\n    {body}\n"
    assert [site.name for site in sites_of(text, tmp_path if with_source else None)] == ["f#0"]


@pytest.mark.parametrize("with_source", [True, False])
def test_run_that_came_in_as_argument_has_a_site_of_its_own(tmp_path: Path, with_source: bool) -> None:
    text = """
    def f(run):
        str(1)
        for x in run.loop([1]):
            for y in markers.loop([1]):
                for z in run.loop([1]):
                    pass
    """
    from tests.unit.sites_support import Run

    found = sites_of(text, tmp_path if with_source else None, Run())
    assert [site.ordinal for site in found] == [-2, 0, -4]


def test_multi_line_method_chain_is_found(tmp_path: Path) -> None:
    text = """
    def f():
        run = markers.current_run()
        for x in (run
                .loop([1])):
            pass
        for y in (run
              .loop(
          [1])): pass
        for ä in markers.loop(["ü"]): pass
    """
    found = sites_of(text, tmp_path)
    assert [(site.name, site.label) for site in found] == [("f#0", "x"), ("f#1", "y"), ("f#2", "ä")]
    assert all(site.ends_plainly and site.collapsible for site in found)


PLAINLY = [
    ("for x in markers.loop([1]):\n        break", True),
    ("for x in markers.loop([1]):\n        def g(): return 1", True),
    ("for x in markers.loop([1]):\n        pass\n    else:\n        pass", False),
    ("for x in markers.loop([1]):\n        if x: return 1", False),
    ("it = markers.loop([1])\n    for x in it: pass", False),
    ("for x in tqdm(markers.loop([1]), total=1): break", True),
    ("for x in tqdm(iterable=markers.loop([1])): break", True),
    ("for x in (tqdm(markers.loop([1])) if markers else [1]): break", True),
    ("bar = functools.partial(tqdm, leave=False)\n    for x in bar(markers.loop([1])): break", False),
    ("for x in shown(markers.loop([1])): break", True),
    ("for x in consume(markers.loop([1])): break", False),
]


@pytest.mark.parametrize(("body", "expected"), PLAINLY)
def test_ends_plainly_only_where_a_break_leads_right_behind_the_loop(tmp_path: Path, body: str, expected: bool) -> None:
    top = "import functools\nfrom tqdm import tqdm\nshown = functools.partial(tqdm, leave=False)\ndef consume(xs): return xs\n"
    (site,) = sites_of(f"{top}def f():\n    {body}\n", tmp_path)
    assert site.ends_plainly is expected


COLLAPSIBLE = [
    ("while n < 2:\n        n += 1\n        for x in markers.loop([1]): pass", True),
    ("while n < 2:\n        n += 1\n        with open('/dev/null'):\n            for x in markers.loop([1]): pass", True),
    ("for i in [1, 2]:\n        for x in markers.loop([1]): pass", False),
    ("for i in []: pass\n    else:\n        for x in markers.loop([1]): pass", True),
    ("for i in [1]:\n        for y in markers.loop([1]):\n            for x in markers.loop([1]): pass", True),
    ("for y in markers.loop([1]):\n        for i in [1]:\n            for x in markers.loop([1]): pass", False),
    ("it = markers.loop([1])\n    for i in it:\n        for x in markers.loop([1]): pass", True),
    ("try:\n        1 / 0\n    except ZeroDivisionError:\n        for x in markers.loop([1]): pass", False),
    ("try:\n        pass\n    finally:\n        for x in markers.loop([1]): pass", False),
    ("try:\n        for x in markers.loop([1]): pass\n    finally:\n        pass", True),
    ("for y in ([1] if n else markers.loop([1])):\n        for x in markers.loop([1]): pass", True),
]


@pytest.mark.parametrize(("body", "expected"), COLLAPSIBLE)
def test_collapsible_only_where_the_stack_stays_the_same(tmp_path: Path, body: str, expected: bool) -> None:
    text = f"def f(n=0):\n    {body}\n"
    found = [site for site in sites_of(text, tmp_path) if site.label == "x"]
    assert found
    # The last case: whether the enclosing loop is marked depends on the run, so it does not count as marked.
    expected = expected and "if n else" not in body
    assert {site.collapsible for site in found} == {expected}


def test_module_level_loops_have_sites(tmp_path: Path) -> None:
    seen.clear()
    text = """
    with markers.open("a") as first:
        for x in first.loop([1]): pass
    with markers.open("b") as second:
        for y in second.loop([1]): pass
    """
    module_of(text, tmp_path)
    assert [(site.name, site.label) for site in seen] == [("<module>#0", "x"), ("<module>#1", "y")]


def test_second_look_is_served_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    function = module_of("def f():\n    for x in markers.loop([1]): pass\n", tmp_path)["f"]
    seen.clear()
    function()
    monkeypatch.setattr(sites, "_site", lambda *arguments: pytest.fail("looked again"))
    function()
    assert seen[0] is seen[1]


def test_file_edited_after_it_was_loaded_gives_no_wrong_site(tmp_path: Path) -> None:
    space = module_of("def f():\n    for x in markers.loop([1]): pass\n", tmp_path)
    Path(space["__file__"]).write_text("import os\ndef f():\n    for y in os.listdir('.'): pass\n", encoding="utf-8")
    seen.clear()
    space["f"]()
    assert [(site.name, site.label, site.ends_plainly) for site in seen] == [("f#0", "", False)]


DIRECT = [
    ("helper()", True),
    ("y = helper()", True),
    ("return self.helper()", True),
    ("while n:\n        helper()\n        n = 0", True),
    ("if helper(): pass", True),
    ("for i in markers.loop([1]):\n        helper()", True),
    ("for i in [1]:\n        helper()", False),
    ("for i in helper(): pass", True),
    ("n += helper()[0]", False),
    ("n = n + len(helper())", False),
    ("y = [helper() for i in [1]]", False),
    ("y = [i for i in helper()]", False),
    ("alias = helper\n    alias()", False),
    ("for i in Iterates(): pass", False),
]


@pytest.mark.parametrize(("body", "expected"), DIRECT)
def test_call_is_direct_only_where_nothing_is_kept_on_the_stack(tmp_path: Path, body: str, expected: bool) -> None:
    text = """
    import sys
    answers = []
    def helper(depth=1):
        answers.append(is_direct(sys._getframe(depth), "helper"))
        return [1]
    class Self: pass
    class Iterates:
        def __iter__(self):
            return iter(helper(2))
    self = Self()
    self.helper = helper
    """
    space = module_of(textwrap.dedent(text) + f"def f(n=1):\n    {body}\n", tmp_path)
    space["is_direct"] = sites.call_is_direct
    space["f"]()
    assert space["answers"] == [expected]


def test_call_is_not_direct_without_source() -> None:
    space = module_of("def f():\n    helper()\n", None)
    answers: list[bool] = []
    space["helper"] = lambda: answers.append(sites.call_is_direct(sys._getframe(1), "helper"))
    space["f"]()
    assert answers == [False]


@pytest.mark.parametrize("with_source", [True, False])
def test_wrapper_around_a_run_that_came_in_is_refused_when_it_is_reached(tmp_path: Path, with_source: bool) -> None:
    from tests.unit.sites_support import Run

    text = "def f(run):\n    for x in enumerate(run.loop([1])): pass\n"
    with pytest.raises(UnsupportedCodeError, match="position"):
        sites_of(text, tmp_path if with_source else None, Run())


def test_generator_that_a_for_statement_drives_is_no_direct_call(tmp_path: Path) -> None:
    text = """
    import sys
    answers = []
    def helper():
        answers.append(is_direct(sys._getframe(1), "helper"))
        yield 1
    def f():
        for i in helper():
            pass
    """
    space = module_of(text, tmp_path)
    space["is_direct"] = sites.call_is_direct
    space["f"]()
    assert space["answers"] == [False]


def test_source_is_parsed_again_where_the_interpreter_refuses_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse, tries = ast.parse, []

    def fails_twice(text: str) -> ast.Module:
        tries.append(text)
        if len(tries) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=156, after=211)")
        return parse(text)

    path = tmp_path / "parsed_again.py"
    path.write_text("def f():\n    return 1\n")
    scope: dict[str, object] = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)  # noqa: S102 - code with a file of its own
    monkeypatch.setattr(source.ast, "parse", fails_twice)
    assert source.load(scope["f"].__code__, scope) is not None  # type: ignore[attr-defined]
    assert len(tries) == 3
