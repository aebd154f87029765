"""Jobs with a local that cannot be saved faithfully, and jobs with one that is made again by the code.

An iteration prints ITERATED: a refusal has to come before it.
"""

from __future__ import annotations

import io
import logging
import math
import socket
import subprocess
import tempfile
import threading
from typing import Any

from programs.registry import FORMS
from programs.ticks import tick

import ckpt


class Thing:
    """An object with whatever attributes."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Hook:
    def __reduce__(self) -> Any:
        raise TypeError("a hook cannot be pickled")


def iterate(total: int = 0) -> int:
    print("ITERATED", flush=True)
    tick()
    return total + 1


@ckpt.job
def generator_job() -> Any:
    numbers = (i for i in range(10))
    total = 0
    for _ in ckpt.loop(range(3)):
        total += iterate(next(numbers))
    return total


@ckpt.job
def generator_in_dict_job() -> Any:
    table = {"numbers": (i for i in range(10))}
    for _ in ckpt.loop(range(3)):
        iterate(next(table["numbers"]))
    return 0


@ckpt.job
def zip_job() -> Any:
    pairs = zip((i for i in range(10)), "abcdefghij", strict=True)
    for _ in ckpt.loop(range(3)):
        iterate(next(pairs)[0])
    return 0


@ckpt.job
def writing_job() -> Any:
    with open("written.txt", "w") as out:
        for i in ckpt.loop(range(3)):  # noqa: FURB122
            out.write(f"{iterate(i)}\n")
    return 0


@ckpt.job
def temporary_job() -> Any:
    with tempfile.NamedTemporaryFile("w") as scratch:
        for i in ckpt.loop(range(3)):
            scratch.write(f"{iterate(i)}\n")
    return 0


@ckpt.job
def appending_job() -> Any:
    model = Thing(log=open("log.txt", "a"))  # noqa: SIM115
    for i in ckpt.loop(range(3)):
        model.log.write(f"{iterate(i)}\n")
    model.log.close()
    return 0


@ckpt.job
def held_lock_job() -> Any:
    guard = threading.Lock()
    with guard:
        for _ in ckpt.loop(range(3)):
            iterate()
    return 0


@ckpt.job
def held_lock_in_object_job() -> Any:
    model = Thing(guard=threading.Lock())
    model.guard.acquire()
    for _ in ckpt.loop(range(3)):
        iterate()
    return 0


@ckpt.job
def hook_job() -> Any:
    model = Thing(optimizer=Thing(rate=0.1, hook=Hook()))
    for _ in ckpt.loop(range(3)):
        iterate()
    return model.optimizer.rate


@ckpt.job
def socket_job() -> Any:
    items = [1, 2, socket.socket()]
    for _ in ckpt.loop(range(3)):
        iterate()
    return len(items)


@ckpt.job
def thread_job() -> Any:
    worker = threading.Thread(target=threading.Event().wait, daemon=True)
    worker.start()
    for _ in ckpt.loop(range(3)):
        iterate()
    return worker.name


def helper() -> int:
    words = (word for word in ("a", "b", "c", "d"))
    for _ in ckpt.loop(range(3)):
        iterate(len(next(words)))
    return 0


@ckpt.job
def helper_generator_job() -> Any:
    return helper()


@ckpt.job
def later_job() -> Any:
    late: Any = None
    for i in ckpt.loop(range(5)):
        if i == 2:
            late = (n for n in range(3))
        iterate()
    return str(late)


@ckpt.job
def lock_job() -> Any:
    guard, log = threading.Lock(), []
    for i in ckpt.loop(range(6)):
        with guard:
            log.append(iterate(i))
    return log, guard.locked()


@ckpt.job
def rlock_job() -> Any:
    model = Thing(guard=threading.RLock(), log=[])
    for i in ckpt.loop(range(6)):
        with model.guard:
            model.log.append(iterate(i))
    return model.log


@ckpt.job
def logger_job() -> Any:
    logger, maths, total = logging.getLogger("job"), math, 0.0
    text = io.StringIO()
    for i in ckpt.loop(range(6)):
        logger.debug("item %d", i)
        total += maths.sqrt(iterate(i))
        text.write(f"{i};")
    return total, text.getvalue()


class Client:
    """Holds a connection; made again by the code that the job runs again."""

    def __init__(self) -> None:
        self.connection, self.calls = socket.socket(), 0

    def call(self, i: int) -> int:
        return i * 2


@ckpt.job(recreate=("client",))
def recreate_job() -> Any:
    client, log = Client(), []
    for i in ckpt.loop(range(6)):
        log.append(client.call(iterate(i)))
    return log


@ckpt.job
def child_process_job() -> Any:
    child = subprocess.Popen(["true"])
    for _ in ckpt.loop(range(3)):
        iterate()
    return child.wait()


def failing(log: list[Any], ready: list[Any]) -> None:
    log.append(ready)
    raise ValueError(ready)


@ckpt.job
def waiting_exception_job() -> Any:
    log: list[Any] = []
    try:
        failing(log, [])
    finally:
        for _ in ckpt.loop(range(3)):
            iterate()
            log[0].append(1)


@ckpt.job
def raised_again_job() -> Any:
    log: list[Any] = []
    try:
        failing(log, [])
    except ValueError:
        for _ in ckpt.loop(range(3)):
            iterate()
            log[0].append(1)
        raise


@ckpt.job
def picked_result_job() -> Any:
    log: list[Any] = [[]]
    try:
        return max(log)
    finally:
        for _ in ckpt.loop(range(3)):
            iterate()
            log[0].append(1)


JOBS = {
    "captures_a_child_process": child_process_job,
    "holds_an_exception_that_waits_for_finally": waiting_exception_job,
    "holds_an_exception_that_is_raised_again": raised_again_job,
    "holds_a_result_that_was_picked_from_a_list": picked_result_job,
    "captures_a_generator": generator_job,
    "captures_a_generator_in_a_dict": generator_in_dict_job,
    "captures_a_zip_iterator_over_a_generator": zip_job,
    "captures_a_file_open_for_writing": writing_job,
    "captures_a_temporary_file": temporary_job,
    "captures_a_file_open_for_appending": appending_job,
    "captures_a_held_lock": held_lock_job,
    "captures_a_held_lock_in_an_object": held_lock_in_object_job,
    "captures_an_object_that_cannot_be_pickled": hook_job,
    "captures_a_socket_in_a_list": socket_job,
    "captures_a_thread": thread_job,
    "captures_a_helpers_generator": helper_generator_job,
    "turns_bad_later": later_job,
    "keeps_an_unlocked_lock": lock_job,
    "keeps_an_rlock_in_an_object": rlock_job,
    "keeps_a_logger_and_modules": logger_job,
    "keeps_what_recreate_names": recreate_job,
}
for name, job in JOBS.items():
    FORMS[name] = job
