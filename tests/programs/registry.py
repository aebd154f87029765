"""The control-flow forms by name: each calls its job the way a caller would and returns all that the caller sees."""

from __future__ import annotations

from collections.abc import Callable

FORMS: dict[str, Callable[[], object]] = {}


def form(function: Callable[[], object]) -> Callable[[], object]:
    FORMS[function.__name__] = function
    return function
