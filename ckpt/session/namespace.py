"""``run.state(...)``: a namespace whose values come back."""

from __future__ import annotations

from typing import Any

from ckpt.capture.visible import has_state_dict


class Namespace:
    """Plain attributes. Values with ``state_dict`` and ``load_state_dict`` are restored in place, others are replaced."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __repr__(self) -> str:
        return f"state({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class _InPlace:
    """The ``state_dict`` of an object that the program makes itself."""

    __slots__ = ("state",)

    def __init__(self, state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _InPlace, (self.state,)


class _Deleted:
    """Stands for a name that the program gave and then deleted."""

    def __reduce__(self) -> str:
        return "_DELETED"


_DELETED = _Deleted()


def save(namespace: Namespace, given: frozenset[str]) -> dict[str, Any]:
    """The values by name, picklable in the state's graph. ``given``: the names that it was made with."""
    return {name: _DELETED for name in given - vars(namespace).keys()} | {
        name: _InPlace(value.state_dict()) if has_state_dict(value) else value
        for name, value in vars(namespace).items()
    }


class Namespaces:
    """The namespaces of one run, in the order in which the program asked for them."""

    def __init__(self) -> None:
        self._all: list[tuple[Namespace, frozenset[str]]] = []

    def add(self, made: Namespace, contents: list[Any]) -> None:
        """``contents``: what is known already of the namespaces of this run, in their order."""
        self._all.append((made, frozenset(vars(made))))
        if len(self._all) <= len(contents):
            restore(made, contents[len(self._all) - 1])

    def sizes(self) -> dict[str, int]:
        """The values by name, with their bytes where they say so (else -1)."""
        several = len(self._all) > 1
        return {
            f"state{f'[{number}]' if several else ''}.{name}": int(value.nbytes) if hasattr(type(value), "nbytes") else -1
            for number, (one, _) in enumerate(self._all)
            for name, value in vars(one).items()
        }

    def save(self) -> list[Any]:
        return [save(one, given) for one, given in self._all]

    def restore(self, contents: list[Any]) -> None:
        for (made, _), saved in zip(self._all, contents, strict=False):
            restore(made, saved)


def restore(namespace: Namespace, saved: dict[str, Any]) -> None:
    """Set the values back. Names that are new to the program keep the values that it gave; deleted ones are gone again."""
    for name, value in saved.items():
        if value is _DELETED:
            vars(namespace).pop(name, None)
        elif isinstance(value, _InPlace):
            getattr(namespace, name).load_state_dict(value.state)
        else:
            setattr(namespace, name, value)
