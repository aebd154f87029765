"""Forms: values of many kinds among the locals, and what has an identity beyond the job."""

from __future__ import annotations

import array
import collections
import heapq
import io
import itertools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from programs.registry import form
from programs.ticks import tick

import ckpt

MISSING = object()
SHARED: list[Any] = []


@ckpt.job
def sentinel() -> Any:
    best: Any = MISSING
    seen = []
    for value in ckpt.loop([3, 1, 2]):
        tick()
        seen.append(best is MISSING)
        if value == 1:
            best = value
    again: Any = MISSING
    for _ in ckpt.loop(range(2)):
        tick()
        seen.append(again is MISSING)
    return seen, best


@form
def sentinel_of_the_module() -> object:
    return sentinel()


@ckpt.job
def alias_of_global() -> Any:
    shared = SHARED
    for i in ckpt.loop(range(4)):
        tick()
        SHARED.append(i)
        shared.append(-i)
    return shared is SHARED, list(shared)


@form
def local_alias_of_a_global_list() -> object:
    return alias_of_global()


class Point(NamedTuple):
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    stop: int


class Slotted:
    __slots__ = ("later", "value")

    def __init__(self, value: int) -> None:
        self.value = value


@ckpt.job
def containers() -> Any:
    groups: Any = collections.defaultdict(list)
    defaulted: Any = collections.defaultdict(lambda: [0])
    ordered = collections.OrderedDict(b=1)
    recent: Any = collections.deque(maxlen=3)
    counts: Any = collections.Counter()
    heap: list[Any] = []
    slotted, spans, points = Slotted(0), [], []
    for i in ckpt.loop(range(5)):
        tick()
        groups[i % 2].append(i)
        defaulted[i % 3][0] += i
        ordered[str(i)] = i
        ordered.move_to_end("b")
        recent.append(i)
        counts["even" if i % 2 == 0 else "odd"] += 1
        heapq.heappush(heap, (-i, Point(i, -0.0)))
        slotted.value += 1
        if i == 2:
            slotted.later = i
        spans.append(Span(i, i + 1))
        points.append(heap[0][1])
    dictionaries = dict(groups), dict(defaulted), dict(ordered), dict(counts)
    texts = [str(span) for span in spans], [str(point) for point in points]
    return dictionaries, list(recent), recent.maxlen, texts, slotted.value, slotted.later, heap[0][1] is points[-1]


@form
def containers_of_many_kinds() -> object:
    return containers()


@ckpt.job
def streams() -> Any:
    text, raw = io.StringIO(), io.BytesIO(b"0123456789")
    numbers, cycle = itertools.count(5, 3), itertools.cycle("ab")
    chained = itertools.chain([1, 2], (3, 4), [5, 6])
    cells = array.array("d", [0.0] * 3)
    pattern, cut = re.compile(r"\d+"), slice(1, None, 2)
    log = []
    for i in ckpt.loop(range(5)):
        tick()
        text.write(f"{next(numbers)}{next(cycle)},")
        log.append(raw.read(2))
        log.append(next(chained))
        cells[i % 3] += i / 7
        log.append(pattern.findall(text.getvalue())[-1])
    return text.getvalue(), log[cut], cells.tolist(), raw.tell()


@form
def streams_iterators_and_buffers() -> object:
    return streams()


@ckpt.job
def arrays() -> Any:
    big = np.arange(24.0).reshape(4, 6)
    turned, part, zero = np.asfortranarray(big), big[1:3, ::2], np.array(2.5)
    fixed = np.arange(3)
    fixed.flags.writeable = False
    mixed = np.array([[1], "two", None], dtype=object)
    inner = mixed[0]
    record = np.zeros(2, dtype=[("name", "U4"), ("value", ">f8")])
    empty, flags = np.empty((0, 3)), np.zeros(9, dtype=bool)
    for i in ckpt.loop(range(4)):
        tick()
        part += 0.5
        turned[i] *= i
        zero += 1
        inner.append(i)
        record[i % 2]["value"] += i
        record["name"][i % 2] = f"n{i}"
        flags[i * 2] = True
    same = np.shares_memory(part, big), mixed[0] is inner, fixed.flags.writeable, turned.flags.f_contiguous
    return big, turned, part, float(zero), mixed.tolist(), record.tobytes(), empty.shape, flags, same


@form
def arrays_of_many_kinds() -> object:
    return arrays()


@ckpt.job
def local_classes() -> Any:
    class Tally:
        made = 0

        def __init__(self) -> None:
            self.value = 0

    pair = collections.namedtuple("pair", "a b")
    tallies, pairs = [Tally()], [pair(0, 1)]
    for i in ckpt.loop(range(4)):
        tick()
        tallies.append(Tally())
        tallies[i].value += i
        pairs.append(pair(i, pairs[-1].a))
    kinds = all(isinstance(each, Tally) for each in tallies), all(isinstance(each, pair) for each in pairs)
    return [each.value for each in tallies], [tuple(each) for each in pairs], kinds


@form
def instances_of_classes_made_in_the_job() -> object:
    return local_classes()


@ckpt.job
def recursive_closure() -> Any:
    memo: dict[int, int] = {}

    def fib(n: int) -> int:
        if n not in memo:
            memo[n] = n if n < 2 else fib(n - 1) + fib(n - 2)
        return memo[n]

    out = []
    for n in ckpt.loop(range(6)):
        tick()
        out.append(fib(n * 3))
    return out, len(memo)


@form
def recursive_nested_function_with_a_memo() -> object:
    return recursive_closure()


@ckpt.job
def keeps_errors() -> Any:
    errors: list[Exception] = []
    last: Exception | None = None
    for i in ckpt.loop(range(5)):
        tick()
        try:
            [][i]
        except IndexError as error:
            error.add_note(f"item {i}")
            errors.append(error)
            last = error
    return [(type(e).__name__, str(e), e.__notes__) for e in errors], last is errors[-1]


@form
def exceptions_kept_in_a_list() -> object:
    return keeps_errors()


class Node:
    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name, self.parent, self.children = name, parent, []
        if parent:
            parent.children.append(self)


@ckpt.job
def graph() -> Any:
    root = Node("root")
    at = root
    for i in ckpt.loop(range(6)):
        tick()
        at = Node(f"n{i}", at if i % 2 else root)
    walk, todo = [], [root]
    for node in ckpt.loop(todo):
        walk.append((node.name, node.parent.name if node.parent else None, node.parent is root))
        todo.extend(node.children)
    tick()
    return walk, at.parent.name


@form
def objects_that_point_at_each_other() -> object:
    return graph()
