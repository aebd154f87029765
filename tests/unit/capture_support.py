"""For the tests of the capture: states that go through a real pickle, and jobs that die inside this process.

A job dies by an exception in the middle of an iteration: nothing is saved on the way out, so that it is resumed as after
a kill, and the next attempt is a call in the same process.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from programs.bits import exact

import ckpt
from ckpt.capture.graph import Graph
from ckpt.capture.rebuild import Scene
from ckpt.capture.visible import Visible
from ckpt.staging import Stager


class Died(BaseException):
    """The attempt ends here."""


_ticks = {"seen": 0, "last": 0}


def tick() -> None:
    """One possible moment of death."""
    run = ckpt.current_run()
    if run is not None:
        run._saving.wait_idle()
        run.attention.append("settled")  # the loop comes by: each safe point has a checkpoint of its own
    _ticks["seen"] += 1
    if _ticks["seen"] == _ticks["last"]:
        raise Died


def attempt(job: Any, arguments: tuple[Any, ...], folder: Path, dies_at: int = 0, **options: Any) -> Any:
    """One call that dies at its tick number ``dies_at`` (0: never; None is returned if it died)."""
    _ticks.update(seen=0, last=dies_at)
    try:
        return job.options(store=str(folder), every="1it", **options)(*arguments)
    except Died:
        return None


def plain(job: Any, *arguments: Any) -> Any:
    """What the function itself returns, which never dies."""
    _ticks.update(seen=0, last=0)
    return job.__wrapped__(*arguments)


def check_resumed(
    job: Any,
    folder: Path,
    make: Callable[[], tuple[Any, ...]] = tuple,
    look: Callable[[tuple[Any, ...], Any], Any] = lambda arguments, result: (arguments, result),
) -> None:
    """``job`` dies once at each of its ticks, and once more two ticks later; what ``look`` sees in the end is as if it
    never had. ``make`` gives equal arguments for each attempt."""
    arguments = make()
    wanted = exact(look(arguments, plain(job, *arguments)))
    ticks = _ticks["seen"]
    assert ticks >= 3, "the job has to have moments to die at"
    for dies_at in range(1, ticks + 1):
        attempt(job, make(), folder, dies_at)
        attempt(job, make(), folder, 3)
        arguments = make()
        found = exact(look(arguments, attempt(job, arguments, folder)))
        assert found == wanted, f"died at tick {dies_at} of {ticks}"
        shutil.rmtree(folder)


def through_a_state(value: Any, saved: Visible | None = None, loaded: Visible | None = None) -> Any:
    """``value`` saved by one process and loaded by another, whose objects of the caller are ``saved`` and ``loaded``."""
    graph = Graph(saved or Visible(), lambda kind: None)
    staged = Stager().stage(*graph.dump(value, Scene([], [])))
    parts = [bytearray(part) for part in staged.parts]
    staged.release()
    return Graph(loaded or Visible(), lambda kind: None).load(parts[0], parts[1:], Scene([], []))


def visible(**roots: Any) -> Visible:
    """What a caller sees who holds ``roots``."""
    found = Visible()
    for name, root in roots.items():
        found.add(root, name)
    return found


def refilled(make: Callable[[], Any], change: Callable[[Any], None]) -> tuple[Any, Any]:
    """(the object that one attempt changed, the equal one of the next attempt with these changes put back into it)."""
    changed, fresh = make(), make()
    saved, loaded = visible(it=changed), visible(it=fresh)
    change(changed)
    loaded.refill(through_a_state(saved.contents(), saved, loaded))
    return changed, fresh


def refusal(job: Any, folder: Path, *arguments: Any) -> ckpt.errors.UncapturableError:
    """What the first safe point of ``job`` raises."""
    try:
        attempt(job, arguments, folder)
    except ckpt.errors.UncapturableError as error:
        return error
    raise AssertionError("it was not refused")


@contextlib.contextmanager
def or_refused(name: str) -> Iterator[None]:
    """What happens inside is right, or was refused by ``name``."""
    try:
        yield
    except ckpt.errors.UncapturableError as error:
        if name not in error.where:
            raise
