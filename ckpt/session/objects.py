"""``run.dict``, ``run.list``, ``run.counter`` and ``run.logged``: how a program asks for operation-logged objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ckpt.errors import OptionError
from ckpt.session import current
from ckpt.session.containers import LoggedCounter, LoggedDict, LoggedList, unheard
from ckpt.session.journal import Journal
from ckpt.session.logged import Bound, Logged, bind, kind_text, name_of

L = TypeVar("L", bound=Logged)


class MakesLogged(Protocol):
    """``run.logged``."""

    def __call__(self, kind: type[L], name: str, *args: Any, check: bool = False, **kwargs: Any) -> L:
        """The run's object of this name, of a class of your own: made with the arguments where it is new.

        ``check=True``: operations that read a clock or random numbers, that are not deterministic, or that are bypassed are
        an UnsupportedCodeError. That costs several times the operation itself: for tests.
        """


class Objects:
    """Gives the objects of one run by name. ``journal`` None: objects that belong to no log."""

    def __init__(self, journal: Journal | None) -> None:
        self._journal = journal
        self._plain: dict[str, Any] = {}

    @property
    def doors(
        self,
    ) -> tuple[Callable[[str], LoggedDict], Callable[[str], LoggedList], Callable[[str], LoggedCounter], MakesLogged]:
        """The four calls. (Methods called dict and list would hide the types of these names.)"""
        return self._dict, self._list, self._counter, self._logged

    def _dict(self, name: str) -> LoggedDict:
        """The run's mapping of this name; each change of it is an operation. OptionError if the name is another object's."""
        found: LoggedDict = self._builtin(LoggedDict, name)
        return found

    def _list(self, name: str) -> LoggedList:
        """The run's sequence of this name."""
        found: LoggedList = self._builtin(LoggedList, name)
        return found

    def _counter(self, name: str) -> LoggedCounter:
        """The run's counter of this name, which begins at 0."""
        found: LoggedCounter = self._builtin(LoggedCounter, name)
        return found

    def _logged(self, kind: type[L], name: str, *args: Any, check: bool = False, **kwargs: Any) -> L:
        if not (isinstance(kind, type) and issubclass(kind, Logged)):
            raise OptionError(f"{kind!r} is no ckpt.Logged class", where=name, fix="class Ledger(ckpt.Logged): ...")
        _check_name(name)
        if self._journal is None:
            if name not in self._plain:
                self._plain[name] = kind(*args, **kwargs)
                bind(self._plain[name], Bound(name, unheard))
            found: L = self._plain[name]
            return found
        made: L = self._journal.custom(kind, name, (args, kwargs), check=check)
        return made

    def _builtin(self, kind: type[Any], name: str) -> Any:
        _check_name(name)
        if self._journal is None:
            if name not in self._plain:
                self._plain[name] = kind(name, unheard)
            return self._plain[name]
        return self._journal.builtin(kind, name)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise OptionError(f"{name!r} is no name of a logged object", fix='give a text: run.dict("seen")')


def reduction_of(kind: type) -> Callable[[Any], Any] | None:
    """How a variable that refers to a logged object goes into a state: by class and name. None for other types."""
    if not issubclass(kind, LoggedDict | LoggedList | LoggedCounter | Logged):
        return None

    def reduce(body: Any) -> Any:
        name = name_of(body)
        if name is None:
            return NotImplemented
        return find_object, (kind if issubclass(kind, Logged) else kind_text(kind), name)

    return reduce


def find_object(kind: Any, name: str) -> Any:
    """The object again. Its name in states is part of the on-disk format."""
    run = current.run_of_process()
    assert run is not None
    return run.find_object(kind, name)
