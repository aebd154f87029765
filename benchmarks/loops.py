"""What marking a loop costs per iteration, and per entry."""

from __future__ import annotations

from benchmarks.harness import Bench, Row, compare

LIMIT = 3.0


def measure(bench: Bench) -> list[Row]:
    rounds, count = bench.size(15, 7), bench.size(500_000, 100_000)
    found = bench.result("loops.py", rounds, count, "1000h")
    budget = bench.result("loops.py", rounds, count, "1%")
    counted = bench.result("loops.py", rounds, count, "1000000000it")
    entry = "1 inner loop and 10 inner iterations"
    return [
        compare(
            "marked loop, no checkpoint due: iteration",
            found["marked"],
            ("pass-through generator", found["generator"]),
            target=LIMIT,
        ),
        compare("marked loop, no checkpoint due: iteration", found["marked"], ("plain for", found["plain"])),
        compare(
            "marked loop, default budget, tiny state: iteration",
            budget["marked"],
            ("pass-through generator", budget["generator"]),
            note="with the checkpoints that come due",
        ),
        compare(
            "marked loop, every=\"1000000000it\": iteration",
            counted["marked"],
            ("pass-through generator", counted["generator"]),
            target=LIMIT,
        ),
        compare(
            "nested marked loops: outer iteration",
            found["nested_marked"],
            ("two pass-through generators", found["nested_generator"]),
            note=entry,
        ),
        compare(
            "nested marked loops: outer iteration",
            found["nested_marked"],
            ("plain nested for", found["nested_plain"]),
            note=entry,
        ),
    ]
