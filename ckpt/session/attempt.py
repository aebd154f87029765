"""The life of one attempt: lease, recover, run, release.

``open_attempt`` gives a run that is ready to be entered, or the recorded result of one that is over. Whatever happens
afterwards, ``Attempt.close`` ends the threads, records how it ended, and lets the lease go.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ckpt import events, host
from ckpt._version import __version__
from ckpt.capture.graph import Graph
from ckpt.capture.state import StateCapture
from ckpt.capture.visible import Visible
from ckpt.errors import CkptError, Preempted, StorageError
from ckpt.format.path import ends_block
from ckpt.format.records import Kind
from ckpt.history import AFRESH, IDENTIFIED_BY, INSTEAD_OF, History, history_of
from ckpt.holder import Holder
from ckpt.lease import HeldLease, acquire
from ckpt.log import LogView, LogWriter, Place, read_log, with_left_out
from ckpt.mapping.results import Results
from ckpt.recovery import (
    ResumePoint,
    find_resume_point,
    letters_of,
    needed_from,
    needs_left_out,
    result_record,
    results_since_start,
    to_let_go_of,
)
from ckpt.retention import KeptCheckpoint, Retention
from ckpt.root import OpensRoot, StoreRoot
from ckpt.session import current
from ckpt.session.attempts import earlier_attempts, observed, this_attempt
from ckpt.session.loops import MarkedLoop
from ckpt.session.mapjournal import by_map
from ckpt.session.outputs import outputs_of, tidy_outputs
from ckpt.session.plan import MIXED, Plan, check_arguments, code_asks_for_fresh
from ckpt.session.pulse import Pulse
from ckpt.session.run import Run
from ckpt.session.services import Services
from ckpt.session.signals import StopSignals
from ckpt.snapshot import SnapshotRef, SnapshotWriter, read_snapshot
from ckpt.staging import Stager
from ckpt.storage import is_in_process
from ckpt.triggers import parse


@dataclass(slots=True)
class Attempt:
    """An attempt that holds the lease. ``run`` is ready to be entered."""

    plan: Plan
    services: Services
    run: Run
    signals: StopSignals
    root: StoreRoot

    @contextmanager
    def running(self) -> Iterator[Run]:
        """From entry to end: the current run of the thread, listening to signals; leaving records how it ended.

        A forked child that leaves (``os.fork`` and ``sys.exit``) goes on with what it raised, and nothing is recorded.
        """
        failure: BaseException | None = None
        try:
            current.enter(self.run)
            self.signals.install()
            yield self.run
        except BaseException as error:
            failure = error
            raise
        finally:
            self.close(failure)

    def close(self, error: BaseException | None) -> None:
        """End the attempt. ``error`` is what the job raised; nothing that goes wrong here hides it.

        In a forked child that leaves the job's code (``os.fork`` and ``sys.exit``) the attempt is not its own: no effect.
        """
        if self.run.track.inert:
            return
        current.leave(self.run)
        self.signals.restore()
        try:
            with ExitStack() as ends:  # run in reverse order, each of them whatever becomes of the others
                ends.callback(self.services.log.close)
                if error is not None:
                    ends.callback(self._record, error)
                ends.callback(self.run.close, stopped=isinstance(error, Preempted))
        except CkptError as trouble:
            if error is None and not isinstance(trouble, StorageError):
                raise  # a storage that fails has been said already, and does not take the result from the caller
            events.say(f"could not record how the attempt ended: {trouble}")
        finally:
            self._release()

    def _release(self) -> None:
        try:
            self.services.lease.release()
        except StorageError as trouble:
            events.say(f"the lease could not be let go, another attempt may have to wait until it is old: {trouble}")

    def _record(self, error: BaseException) -> None:
        if isinstance(error, Preempted):
            head = self.services.status_head("preempted", str(error.reason))
            events.say(f"{self.plan.names.address}: {error}")
        else:
            head = self.services.status_head("failed", self.services.redact(f"{type(error).__name__}: {error}")[:500])
        self.services.log.append(Kind.STATUS, {**head, **self.run.cost_head()}, durable=True)
        # Not after an interrupt or an exit, which is no mistake of the code; and not by an attempt that was overtaken.
        if isinstance(error, Exception) and (saved := self._saved()):
            events.say(f"{self.plan.names.address}: failed; {saved}: mend it and start it again")

    def _saved(self) -> str:
        """What a next attempt has; empty if it begins with nothing."""
        if position := self.services.saved_at:
            return f"saved at {position}"
        if self.services.found_results or self.run.operations.recorded > self.run.operations.failed_items:
            return "the recorded results of its steps and maps are saved"
        return ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is over: the verified parts of its result."""

    parts: list[Any]

    def result(self, visible: Visible) -> Any:
        """The recorded result; what the caller can see is brought to its recorded end, too."""
        return StateCapture(Graph(visible, lambda kind: None), visible, (), ()).restore_result(self.parts)


def open_attempt(plan: Plan) -> Attempt | Finished:
    """Take the run over and find where it goes on; or its result, if it finished and is not wanted afresh.

    RunBusyError (a live attempt), CorruptionError and its siblings (RolledBackError), ArgumentsChangedError,
    CodeChangedError, StorageError.
    """
    clock = plan.clock
    root = _open_store(plan)
    holder = Holder.this_process(clock)
    lease = acquire(root.storage, plan.names, holder=holder, wait_s=plan.options.wait, clock=clock)
    try:
        view = None if plan.options.fresh else read_log(root.storage, plan.names, root.key, needed_from=needed_from)
        finished, identity = None, plan.identify() if plan.is_named_by_arguments else ""
        if view is not None:
            view.expect(plan.options.expect_at_least, plan.names)
            history = history_of(view.records)
            identity = check_arguments(plan, view, history) or identity
            finished = _finished(plan, root, view, history)
        if finished is None:
            return _open(plan, root, lease, _facts(plan, holder, root.redact, identity), view)
    except BaseException:
        lease.release()
        raise
    lease.release()
    return finished


def _finished(plan: Plan, root: StoreRoot, view: LogView, history: History) -> Finished | None:
    """The recorded result of a job that is over. A ``with`` block is entered again, with its last state."""
    record = result_record(view, history, plan.names)
    if record is None:
        return None
    if code_asks_for_fresh(plan, record.head, "the run finished", "this is the result of the OLD code"):
        return None
    if not plan.captures_locals:
        events.say(f"{plan.names.address}: finished earlier; its last state is back. To run it afresh: ckpt rm {plan.names.address}")
        return None
    parts = read_snapshot(SnapshotRef.decode(record.sections[0]), root.storage, plan.names, root.key)
    tidy_outputs(root, plan.names, record.head.get("outputs", []))
    events.say(
        f"{plan.names.address}: finished earlier, returning the recorded result "
        "(to run it afresh: f.options(fresh=True)(...))"
    )
    return Finished(parts)


def _open_store(plan: Plan) -> StoreRoot:
    """The store of the options: an address, or a ``ckpt.Store``, which knows how it is to be opened."""
    store, environment = plan.options.store, plan.environment
    if isinstance(store, OpensRoot):
        return store.open_root(create=True)
    root = StoreRoot.open(store, key=environment.key, encrypt=environment.encrypt, create=True)
    if is_in_process(root.storage):
        events.say(f"{plan.names.address}: a memory:// store is gone when this process ends: for trying things out only")
    return root


def _open(plan: Plan, root: StoreRoot, lease: HeldLease, facts: dict[str, Any], seen: LogView | None) -> Attempt:
    place = Place(root.storage, plan.names, root.key, plan.entropy, plan.clock)
    log, view = LogWriter.take_over(place, fence=facts, known=seen, needed_from=needed_from)
    try:
        services = _services(plan, root, lease, log, view, facts)
        services.retention.sweep_orphans()
        run = Run(services, captures_locals=plan.captures_locals)
    except BaseException:
        _let_go(log)
        raise
    return Attempt(plan, services, run, StopSignals(run.stop), root)


def _let_go(log: LogWriter) -> None:
    """Close the log of an attempt that did not begin; what is raised already says why."""
    try:
        log.close()
    except CkptError as trouble:
        events.say(f"the log could not be closed: {trouble}")


def _services(
    plan: Plan, root: StoreRoot, lease: HeldLease, log: LogWriter, view: LogView, facts: dict[str, Any]
) -> Services:
    """Recover: where the run goes on, and everything that it works with from there."""
    names, key, clock = plan.names, root.key, plan.clock
    history = history_of(view.records)
    attempts = earlier_attempts(view.records, history, log.epoch)
    if history.afresh:
        facts[AFRESH] = history.afresh
    _report_torn(view)

    def read(ref: SnapshotRef) -> list[Any]:
        with log.unless_overtaken():  # before an older checkpoint is taken for the newest good one
            return read_snapshot(ref, root.storage, names, key)

    resume: ResumePoint | None = None
    # A job that finished is only opened to be run afresh: its checkpoints are gone.
    fresh = plan.options.fresh or (history.finished is not None and plan.captures_locals)
    if not fresh:
        with log.unless_overtaken():
            resume = find_resume_point(view, history, names, read)
            if needs_left_out(view, resume):
                view = with_left_out(view, names, key)
                history = history_of(view.records)
                resume = find_resume_point(view, history, names, read, tell=lambda _: None)  # has told it already
        if resume is not None and history.finished is None:
            fresh = code_asks_for_fresh(plan, resume.head, f"checkpoint {resume.head['number']}", MIXED)
    if fresh:
        facts[AFRESH] = log.epoch
        log.append(Kind.STATUS, {**facts, "status": "reset", "when": clock.now()}, durable=True)
        resume, history = None, History(began_lsn=log.position)
    snapshots = SnapshotWriter(root.storage, names, key, log.epoch)
    snapshots.validate = plan.options.validate
    running = {**facts, "status": "running"}
    retention = Retention(root.storage, names, log, snapshots, keep=plan.options.keep, running=running)
    retention.recovered(kept_checkpoints(history, resume, plan.options.keep))
    over = history.finished is not None or (resume is not None and ends_block(resume.path))
    services = Services(
        options=plan.options,
        storage=root.storage,
        names=names,
        key=key,
        clock=clock,
        entropy=plan.entropy,
        redact=root.redact,
        lease=lease,
        log=log,
        snapshots=snapshots,
        retention=retention,
        stager=Stager(plan.options.memory_limit_bytes),
        trigger=parse(plan.options.every, mtbf_s=plan.options.mtbf_s, observed=observed(attempts)),
        facts=facts,
        attempts=[*attempts, this_attempt(log.epoch, facts)],
        code=plan.code,
        resume=resume,
        operations=resume.operations if resume is not None else results_since_start(history),
        maps=by_map(history, resume),
        letters=letters_of(history, resume),
        last_number=history.last_number,
        over=over,
        outputs=outputs_of(root, names, log, history, over=over),
        pulse=Pulse(plan.environment.pulse) if plan.environment.pulse else None,
        pulse_every_s=plan.environment.pulse_every_s,
        remade_types=(MarkedLoop, Results),
    )
    if resume is not None:
        with log.unless_overtaken():
            snapshots.adopt([*resume.refs])
    return services


def _facts(plan: Plan, holder: Holder, redact: Callable[[str], str], identity: str) -> dict[str, Any]:
    """What the log says of an attempt: enough to start it again, nothing of the environment, and no credentials."""
    return {
        **asdict(holder),
        "job": plan.names.job,
        "run_id": plan.names.run_id,
        "arguments": redact(plan.arguments),
        "argument_digests": dict(plan.argument_digests),
        "command": [*map(redact, host.command_line())],
        "cwd": os.getcwd(),
        "python": sys.version.split()[0],
        "ckpt": __version__,
        "code": dict(plan.code),
        "every": every if isinstance(every := plan.options.every, str) else type(every).__name__,
        **({IDENTIFIED_BY: identity} if identity else {}),
        **({INSTEAD_OF: plan.instead_of} if plan.instead_of else {}),
    }


def _report_torn(view: LogView) -> None:
    for torn in view.torn:
        events.say(f"{torn.path}: the last {torn.length} bytes are an unfinished record of a dead attempt; not used")


def kept_checkpoints(history: History, resume: ResumePoint | None, keep: int) -> list[KeptCheckpoint]:
    """What retention has to know of the checkpoints that are there when an attempt begins."""
    kept = []
    for record, counts in to_let_go_of(history, -1 if resume is None else resume.lsn, keep):
        try:
            packs = frozenset[str]().union(*(SnapshotRef.decode(section).packs for section in record.sections))
        except CkptError:
            continue  # recovery has said so already; a checkpoint that cannot be read keeps nothing
        number = int(record.head["number"]) if counts else 0
        kept.append(KeptCheckpoint(record.lsn, needed_from(record.head), packs, number))
    return kept


