"""How often a program wants checkpoints: ``every`` and ``mtbf`` have to fit together."""

from __future__ import annotations

from typing import Any

from ckpt import triggers
from ckpt.errors import OptionError


def check_every(every: Any, mtbf: Any) -> None:
    """OptionError for a trigger that is not understood, or that would ignore ``mtbf``. Without ``every`` it means ``"auto"``."""
    if every is None:
        return
    trigger = triggers.parse(every)
    if mtbf is not None and not any(isinstance(one, triggers.Auto) for one in triggers.leaves(trigger)):
        raise OptionError(
            f"mtbf={mtbf!r} has no effect with every={every!r}",
            fix='write every="auto" (mtbf= alone means that, too), or leave mtbf= out',
        )
