"""A stand-in for ckpt's markers, and functions made from text with and without a source file."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ckpt.capture.sites import LoopSite, site_at

seen: list[LoopSite] = []
_count = itertools.count()


def loop(iterable: Any, **options: object) -> Any:
    seen.append(site_at(sys._getframe(1)))
    return iter(iterable)


def checkpoint() -> None:
    seen.append(site_at(sys._getframe(1)))


def step(function: Any) -> Any:
    return function


class Run:
    def loop(self, iterable: Any) -> Any:
        seen.append(site_at(sys._getframe(1)))
        return iter(iterable)

    def checkpoint(self) -> None:
        seen.append(site_at(sys._getframe(1)))


@contextlib.contextmanager
def _open(name: str) -> Iterator[Run]:
    yield Run()


def current_run() -> Run:
    return Run()


for _marker, _kind in [
    (loop, "loop"), (checkpoint, "checkpoint"), (step, "step"), (_open, "run"), (current_run, "run"),
    (Run.loop, "loop"), (Run.checkpoint, "checkpoint"),
]:  # fmt: skip
    _marker.__ckpt_marker__ = _kind  # type: ignore[attr-defined]

markers = types.ModuleType("markers")
markers.loop, markers.checkpoint, markers.step = loop, checkpoint, step  # type: ignore[attr-defined]
markers.open, markers.current_run, markers.Run = _open, current_run, Run  # type: ignore[attr-defined]
sys.modules["markers"] = markers


def module_of(text: str, folder: Path | None) -> dict[str, Any]:
    """The globals of ``text`` run as a module; with a source file in ``folder``, or without source."""
    text = "import markers\n" + textwrap.dedent(text)
    if folder is None:
        space: dict[str, Any] = {"__name__": "nosource"}
        exec(compile(text, "<no source>", "exec"), space)  # noqa: S102 - code without source
        return space
    path = folder / f"user{next(_count)}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return vars(module)


def sites_of(text: str, folder: Path | None, *arguments: object) -> list[LoopSite]:
    """The sites that the function ``f`` of ``text`` passes, in order."""
    seen.clear()
    module_of(text, folder)["f"](*arguments)
    return list(seen)
