"""The maps of one run: a journal for each, those of earlier attempts, and the engines that are at work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckpt.errors import IdentityError
from ckpt.mapping.options import MapOptions
from ckpt.mapping.results import GRACE_S, NoJournal, Results, Setting
from ckpt.session import current
from ckpt.session.callee import callee_of, full_name_of
from ckpt.session.mapjournal import Found, MapJournal, Naming
from ckpt.session.moving import move
from ckpt.session.services import Services
from ckpt.session.steps import Recorded, identity_of, scope_of
from ckpt.session.track import Track

if TYPE_CHECKING:
    from ckpt.session.run import Run

_MAP = b"ckpt.map"
_RANDOM_BYTES = 16


class Maps:
    """Makes the results of maps. Used by the threads of the job."""

    def __init__(self, run: Run, services: Services, track: Track, recorded: Recorded) -> None:
        self._run, self._services, self._track, self._recorded = run, services, track, recorded
        self._found = dict(services.maps)
        for identity, found in self._found.items():
            recorded.journals[identity] = lambda found=found: found.first_lsn  # type: ignore[misc]
        self._at_work: list[Results] = []
        self._made: list[tuple[bytes, MapJournal, Results]] = []
        recorded.checkpointed = self._checkpointed

    def results(self, function: Callable[[Any], Any], items: Iterable[Any], options: MapOptions) -> Results:
        """The results of a map that is called here. IdentityError if a resume could take it for another one."""
        identity, journal = self._journal(function, options)
        if options.progress is None:
            options = replace(options, progress=self._services.options.progress)
        clock, entropy = self._services.clock, self._services.entropy
        label = label_of(function)
        context = current.context_of_items
        setting = Setting(journal, clock, entropy, current.inside, label, self._at_work.append, context)
        results = Results(function, items, options, setting)
        self._made = [one for one in self._made if one[0] in self._recorded.journals]
        self._made.append((identity, journal, results))
        return results

    def _journal(self, function: Callable[[Any], Any], options: MapOptions) -> tuple[bytes, MapJournal]:
        try:
            callee = callee_of(function, None, keyed=False)
        except IdentityError as error:
            raise IdentityError(error.what, where="ckpt.map", fix="pass it as part of the items, not bound") from error
        recorded = self._recorded
        with recorded.lock:
            node = self._track.active[-1]
            identity = identity_of(self._track.active, callee, _MAP, in_order=current.in_order())
            naming = Naming(identity, f"map {callee.name}", scope_of(self._track.active))
        recorded.take(identity, node)
        found = self._found.pop(identity, Found())
        with_failed = options.on_error != "raise"
        journal = MapJournal(self._run, self._services, naming, found, with_failed=with_failed)
        recorded.journals[identity] = lambda: journal.first_needed
        # What stands for its results goes where the result of a step would be, and is let go of when that would be.
        recorded.add(identity, b"", node)
        return identity, journal

    def _checkpointed(self) -> None:
        """Called in the background: maps that are over, and that no loop goes through, may be in the way of a trim."""
        held, made = self._recorded.journals, tuple(self._made)
        resting = {one: journal for one, journal, results in made if one in held and results.over and not journal.tracks_done}
        move(self._services, resting)

    def close(self, *, stopped: bool) -> None:
        """End what is still being executed. Where the run is ``stopped``, because somebody asked for it, that is finished first.

        A map that waits for results sees to that itself; a loop that goes through one may notice before it does.
        """
        for results in self._at_work:
            results.close(GRACE_S if stopped else 0.0)


def plain_results(function: Callable[[Any], Any], items: Iterable[Any], options: MapOptions, clock: Any, entropy: Any) -> Results:
    """A map that records nothing: outside any run, or inside an operation, whose keys its items' are then made from."""
    operation, address = current.in_step(), current.address_of_operation()
    if operation is None:
        address, identity = "", entropy(_RANDOM_BYTES)
    else:
        identity = _inner_identity(operation, full_name_of(function))
    journal = NoJournal(address or "", identity)
    return Results(function, items, options, Setting(journal, clock, entropy, current.inside, label_of(function)))


def _inner_identity(operation: bytes, name: str) -> bytes:
    """Which map of the operation this is: by its function, and how many maps of it came before in this try."""
    occurrence = current.count_in_step(name)
    return hashlib.blake2b(operation + f"|{name}|{occurrence}".encode(), digest_size=16).digest()


def label_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
