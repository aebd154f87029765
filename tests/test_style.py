"""The style of the code as a test: what a linter does not say. And: what the documents point at is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ckpt

ROOT = Path(__file__).parents[1]
PACKAGE = Path(ckpt.__file__).parent
FILE_LINES, FUNCTION_LINES = 400, 70
UNFINISHED = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")) + r")\b")


def python_files() -> list[Path]:
    """Every Python file of the project; of the package, those that are installed."""
    folders = [PACKAGE, *(ROOT / name for name in ("tests", "examples", "benchmarks"))]
    found = [path for folder in folders for path in folder.rglob("*.py") if "data" not in path.parts]
    return sorted(found)


def short(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent if path.is_relative_to(PACKAGE) else ROOT))


def problems(text: str, *, in_package: bool) -> Iterator[str]:
    """What is wrong with one file."""
    lines = text.splitlines()
    if len(lines) >= FILE_LINES:
        yield f"{len(lines)} lines: split it by what its parts own"
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            yield f"{number}: unfinished: {line.strip()}"
    tree = ast.parse(text)
    if not ast.get_docstring(tree):
        yield "no docstring that says what the module owns"
    for node in ast.walk(tree):
        yield from _problems_of(node, in_package=in_package)


def _problems_of(node: ast.AST, *, in_package: bool) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length >= FUNCTION_LINES:
            yield f"{node.lineno}: {node.name} has {length} lines"
        if in_package and any(isinstance(default, ast.List | ast.Dict | ast.Set) for default in node.args.defaults):
            yield f"{node.lineno}: {node.name} has a default that its calls share"
    if isinstance(node, ast.ExceptHandler):
        if node.type is None:
            yield f"{node.lineno}: a bare except"
        names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else set()
        if (
            in_package
            and names & {"Exception", "BaseException"}
            and all(isinstance(one, ast.Pass) for one in node.body)
        ):
            yield f"{node.lineno}: an error is swallowed"
    if in_package and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
        yield f"{node.lineno}: print: say it with events.say, or click.echo in the command line"


@pytest.mark.parametrize("path", python_files(), ids=short)
def test_every_file_is_in_style(path: Path) -> None:
    own = path.is_relative_to(PACKAGE) and path.name != "demo_job.py"  # that one is a user's program
    found = list(problems(path.read_text(), in_package=own))
    assert not found, f"{short(path)}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n" * 400, "400 lines"),
        ("def f():\n" + "    pass\n" * 70, "f has 71 lines"),
        ("x = 1  # TO" + "DO: more", "unfinished"),
        ("try:\n    pass\nexcept:\n    raise", "bare except"),
        ("try:\n    pass\nexcept (OSError, Exception):\n    pass", "swallowed"),
        ("def f(x=[]):\n    pass", "calls share"),
        ("print(1)", "print"),
        ("x = 1", "no docstring"),
    ],
)  # fmt: skip
def test_bad_style_is_found(text: str, said: str) -> None:
    assert said in "\n".join(problems(text, in_package=True))


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
TEST = re.compile(r"\btests/[\w/]+\.py\b|\btest_\w+\b(?!\.py)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=short)
def test_every_link_leads_to_a_file(document: Path) -> None:
    targets = [match[1] for match in LINK.finditer(document.read_text()) if "://" not in match[1]]
    # The package may be installed elsewhere: what a document says of it is looked up there.
    gone = [t for t in targets if not any(p.exists() for p in (document.parent / t, PACKAGE.parent / t.lstrip("./")))]
    assert not gone


@pytest.mark.parametrize("document", DOCUMENTS, ids=short)
def test_no_document_has_what_a_merge_left(document: Path) -> None:
    left = re.findall(r"^(?:<{7} |={7}$|>{7} ).*", document.read_text(), re.MULTILINE)
    assert not left


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(TEST.findall((ROOT / "docs" / "guarantees.md").read_text()))
    written = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    for path in [*(ROOT / "tests").rglob("test_*.py"), PACKAGE / "testing" / "contract.py"]:
        text = path.read_text()
        written |= set(re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)) | {path.stem}
    assert len(named) > 50
    assert not named - written
