"""Forms: jobs that write output files. What each gives back is the bytes of its files, as they are when it has returned."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import IO, Any

from programs.registry import form
from programs.ticks import tick

import ckpt
from ckpt.outputs import parts, plain
from ckpt.storage import resolve


def bytes_of(*names: str) -> list[Any]:
    return [Path(name).read_bytes() for name in names]


@ckpt.job
def lines(n: int) -> int:
    out = ckpt.output("lines.txt")
    total = 0
    for i in ckpt.loop(range(n)):
        tick()
        total += i
        out.write(f"{i} {total} {random.random()}\n")
        out.flush()
        tick()
    return total


@form
def output_in_a_local() -> object:
    random.seed(1)
    return lines(6), bytes_of("lines.txt")


@ckpt.job
def header_and_two_loops(n: int) -> None:
    with ckpt.output("report.txt") as out:
        out.write("begin\n")
        tick()
        for i in ckpt.loop(range(n)):
            print("first", i, file=out)
            tick()
        out.write("between\n")
        for i in ckpt.loop(range(n)):
            out.writelines([f"second {i}", "\n"])
            tick()
        out.write("end\n")
        tick()


@form
def output_around_two_loops_with_text_in_between() -> object:
    return header_and_two_loops(4), bytes_of("report.txt")


@ckpt.job
def nested(n: int) -> int:
    out, lengths = ckpt.output("nested.txt", "w"), 0
    for epoch in ckpt.loop(range(n)):
        out.write(f"epoch {epoch}\n")
        for item in ckpt.loop(range(3)):
            tick()
            out.write(f"  item {item} at {out.tell()}\n")
            lengths += out.tell()
            out.flush()
        out.write("done\n")
        tick()
    out.close()
    return lengths


@form
def output_in_nested_loops() -> object:
    return nested(3), bytes_of("nested.txt")


@ckpt.job
def tables(n: int) -> None:
    out = ckpt.output("rows.csv", newline="")
    rows = csv.writer(out)
    named = csv.DictWriter(ckpt.output("named.csv", newline=""), ["n", "text"], delimiter=";")
    other = ckpt.output("rows.jsonl")
    rows.writerow(["n", "text"])
    named.writeheader()
    for i in ckpt.loop(range(n)):
        tick()
        rows.writerow([i, f'a "quoted",\n{i}'])
        named.writerow({"n": i, "text": "x;y"})
        json.dump({"n": i, "half": i / 2}, other)
        other.write("\n")
        tick()


@form
def output_by_csv_and_json() -> object:
    return tables(4), bytes_of("rows.csv", "named.csv", "rows.jsonl")


class Writer:
    """Holds its output in an attribute."""

    def __init__(self, name: str) -> None:
        self.out: IO[str] = ckpt.output(name)
        self.count = 0

    def put(self, text: str) -> None:
        self.count += 1
        self.out.write(f"{self.count} {text}\n")


def write_some(writer: Writer, epoch: int) -> None:
    for i in ckpt.loop(range(3)):
        tick()
        writer.put(f"{epoch}.{i}")


@ckpt.job
def by_attribute(n: int) -> int:
    writer = Writer("held.txt")
    for epoch in ckpt.loop(range(n)):
        write_some(writer, epoch)
        writer.put("end of epoch")
    return writer.count


@form
def output_in_an_attribute_written_by_a_helper() -> object:
    return by_attribute(3), bytes_of("held.txt")


@ckpt.job
def reopened(n: int) -> None:
    late = None
    for i in ckpt.loop(range(n)):
        tick()
        with ckpt.output(f"part-{i % 2}.txt") as out:
            out.write(f"a{i}\n")
            tick()
        if i == 1:
            late = ckpt.output("late.txt", "w")
        if late is not None:
            late.write(f"late {i}\n")
        tick()


@form
def outputs_opened_in_the_loop() -> object:
    return reopened(5), bytes_of("part-0.txt", "part-1.txt", "late.txt")


@ckpt.job
def appended(n: int) -> None:
    out, raw = ckpt.output("old.txt", encoding="utf-16"), ckpt.output("old.bin", "ab")
    fresh = ckpt.output("new.txt", encoding="utf-16", newline="\r\n")
    for i in ckpt.loop(range(n)):
        tick()
        out.write(f"ü{i}\n")
        raw.write(bytes([i, 10, 255 - i]))
        fresh.write(f"n{i}\n")


@form
def output_behind_what_was_there() -> object:
    if not Path("made").exists():
        Path("old.txt").write_text("earlier\n", encoding="utf-16")
        Path("old.bin").write_bytes(b"\x00\x01")
        Path("made").touch()
    return appended(5), bytes_of("old.txt", "old.bin", "new.txt")


@form
def output_in_an_open_block() -> object:
    with ckpt.open("block") as run:
        s = run.state(total=0)
        out = ckpt.output("block.txt", "w")
        out.write("head\n")
        for i in run.loop(range(4)):
            tick()
            s.total += i
            out.write(f"{i} {s.total}\n")
        out.write("tail\n")
        tick()
        out.close()
    return s.total, bytes_of("block.txt")


@form
def output_in_a_block_of_checkpoints() -> object:
    with ckpt.open("points") as run:
        s = run.state(done=0)
        with ckpt.output("points.txt") as out:
            while s.done < 4:
                out.write(f"{s.done}\n")
                tick()
                s.done += 1
                run.checkpoint()
                tick()
    return s.done, bytes_of("points.txt")


@ckpt.job
def in_parts(n: int, join: bool) -> int:
    out = ckpt.output("parts://bucket/rows.txt", join=join)
    for i in ckpt.loop(range(n)):
        out.write(f"{i} " + "x" * (i * 7 % 40) + "\n")
        tick()
        for j in ckpt.loop(range(2)):
            out.write(f"  {j} {random.random()}\n")
            tick()
    length = out.tell()
    out.close()
    return length


def objects() -> None:
    """Objects in a folder, as a storage has them that can only create and replace: in small parts."""
    parts.PART_BYTES, parts.MAX_PENDING = 64, 1
    parts.resolve = plain.resolve = lambda url: resolve("objects")  # type: ignore[assignment]


@form
def output_in_parts_that_are_joined() -> object:
    objects()
    random.seed(4)
    return in_parts(4, True), bytes_of("objects/rows.txt"), sorted(map(str, Path("objects").rglob("*")))


@form
def output_in_parts_that_are_listed() -> object:
    objects()
    random.seed(4)
    length = in_parts(3, False)
    if not Path("objects/rows.txt.manifest.json").exists():  # the plain run
        return length, bytes_of("objects/rows.txt")
    listed = json.loads(Path("objects/rows.txt.manifest.json").read_text())
    assert listed["bytes"] == sum(one["bytes"] for one in listed["parts"])
    there = {str(path) for path in Path("objects/rows.txt.parts").iterdir()}
    assert there == {f"objects/{one['key']}" for one in listed["parts"]}
    return length, [b"".join(Path("objects", one["key"]).read_bytes() for one in listed["parts"])]
