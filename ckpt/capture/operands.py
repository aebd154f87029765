"""What the interpreter's stack leads to in frames that wait for the marked loop: half-made lists, iterators, arguments.

On a resume the re-run code makes these again, and nobody can put others in their place. Owns the walk from them to the
objects that must not come back as others; ``state`` refuses the state whose pickle holds one of them.
"""

from __future__ import annotations

import enum
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any

from ckpt.capture.arrays import root_of
from ckpt.capture.frames import is_passed_over
from ckpt.capture.held import is_spent
from ckpt.capture.slots import operands
from ckpt.capture.visible import kind_of

_IMMUTABLE = frozenset((int, float, str, bytes, bool, complex, type(None), range, slice))
_NOT_FOLLOWED = (types.ModuleType, types.FunctionType, types.CodeType, types.FrameType, type, enum.Enum)
_NOTHING: dict[str, None] = {}
_REMEMBER_AN_ITEM = (enumerate, type(iter(_NOTHING.items())))
"""Their last tuple is used again for the next one: what is in it is not looked at any more."""


def on_the_stack(frame: types.FrameType) -> list[Any]:
    """The objects that the interpreter keeps for ``frame`` outside its variables, as far as that can be told."""
    # A comprehension's or generator expression's own code gets its first iterator as an argument of this name.
    values = [value for name, value in frame.f_locals.items() if name == ".0"] if frame.f_code.co_name[:1] == "<" else []
    return values + (operands(frame) or [])


def led_to(values: list[Any], stays: Callable[[Any], bool]) -> Iterator[Any]:
    """The objects that can change or be used up which ``values`` are or lead to, not further than those that ``stays``
    says to be the same objects after a resume."""
    pending, seen = list(values), set[int]()
    while pending:
        value = pending.pop()
        if type(value) in _IMMUTABLE or id(value) in seen or isinstance(value, _NOT_FOLLOWED) or stays(value):
            continue
        seen.add(id(value))
        if _is_of_the_loop(value):
            continue
        kind = kind_of(value)
        if kind is not None or is_spent(value):
            yield value
        if kind == "array":
            pending.append(root_of(value))
        pending += _below(value)


def _below(value: Any) -> list[Any]:
    if isinstance(value, zip):
        return list(value.__reduce__()[1])
    found = gc.get_referents(value)
    return [one for one in found if type(one) is not tuple] if isinstance(value, _REMEMBER_AN_ITEM) else found


def _is_of_the_loop(value: Any) -> bool:
    """Whether it is a marked loop, a progress bar around one, or something else that comes back by itself."""
    if isinstance(value, types.GeneratorType):
        return bool(value.gi_running) or is_passed_over(value.gi_code)
    if isinstance(value, types.CoroutineType):  # one that is awaited on the way to the loop: its frame is captured
        return bool(value.cr_running) or is_passed_over(value.cr_code)
    return type(value).__module__.partition(".")[0] in ("ckpt", "tqdm")
