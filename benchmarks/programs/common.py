"""What the programs share: saying results, and what the records of a run tell of its cost."""

from __future__ import annotations

import json
from typing import Any


def say(**values: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(values), flush=True)


def totals(address: str) -> dict[str, Any]:
    """What a finished run of the store recorded of itself: seconds, checkpoints, stall_s, cost_s."""
    import ckpt

    heads = [entry.head for entry in ckpt.Store().records(address)]
    [head] = [head for head in heads if head.get("status") == "finished"]
    return {name: head[name] for name in ("seconds", "checkpoints", "stall_s", "cost_s")}
