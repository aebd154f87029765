"""What the tests of async jobs share: a store of their own, a stream, and a step that notes its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import ckpt

DONE: list[Any] = []


@pytest.fixture(autouse=True)
def store_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CKPT_EVERY", "1it")
    DONE.clear()


async def numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


@ckpt.step
async def noted(x: Any) -> Any:
    DONE.append(x)
    await asyncio.sleep(0)
    return x


async def square(x: int) -> int:
    await asyncio.sleep(0)
    return x * x
