"""Saves and restores a list of arrays with another package. Usage: saving.py PEER MIB FOLDER

Imports nothing of this project. A first save of everything, a change of 1 %, and a second save; says of each the stall (until
the call returns) and the total (until it is complete), of the second the bytes that it wrote; the peak of memory beyond what
there was before the state was made; and what reading it back takes.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PEER, MIB, FOLDER = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])


def status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(field)


def written() -> int:
    return sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())


class Nothing:
    """The end of a save that is complete when it returns."""

    def wait(self) -> None:
        return


class ToFile:
    """A module with ``dump(values, file)`` and ``load(file)``."""

    def __init__(self, dump: Callable[[Any, Any], object], load: Callable[[Any], Any], *, synced: bool) -> None:
        self._dump, self._load, self._synced = dump, load, synced

    def save(self, arrays: list[Any], place: Path) -> Nothing:
        with place.open("wb") as file:
            self._dump(arrays, file)
            if self._synced:
                file.flush()
                os.fsync(file.fileno())
        return Nothing()

    def restore(self, place: Path) -> Any:
        with place.open("rb") as file:
            return self._load(file)


class Safetensors:
    """Packages are imported when a peer is made, so before anything is measured."""

    def __init__(self) -> None:
        from safetensors import numpy as safetensors

        self._safetensors = safetensors

    def save(self, arrays: list[Any], place: Path) -> Nothing:
        self._safetensors.save_file({str(number): one for number, one in enumerate(arrays)}, place)
        return Nothing()

    def restore(self, place: Path) -> Any:
        return self._safetensors.load_file(place)


class TorchSave:
    def __init__(self) -> None:
        import torch

        self._torch = torch

    def save(self, arrays: list[Any], place: Path) -> Nothing:
        self._torch.save([self._torch.from_numpy(one) for one in arrays], place)
        return Nothing()

    def restore(self, place: Path) -> Any:
        return self._torch.load(place)


class Dcp:
    def __init__(self) -> None:
        import torch
        from torch.distributed import checkpoint

        self._torch, self._checkpoint = torch, checkpoint

    def save(self, arrays: list[Any], place: Path) -> Any:
        tensors = {str(number): self._torch.from_numpy(one) for number, one in enumerate(arrays)}
        future = self._checkpoint.async_save(tensors, checkpoint_id=place)

        class Waiting:
            def wait(self) -> None:
                getattr(future, "upload_completion", future).result()

        return Waiting()

    def restore(self, place: Path) -> Any:
        count = MIB * (1 << 20) // 128
        tensors = {str(number): self._torch.empty(count, dtype=self._torch.float64) for number in range(16)}
        self._checkpoint.load(tensors, checkpoint_id=place)
        return tensors


class Orbax:
    def __init__(self) -> None:
        import orbax.checkpoint as ocp

        self._checkpointer = ocp.StandardCheckpointer()

    def save(self, arrays: list[Any], place: Path) -> Any:
        self._checkpointer.save(place.absolute(), {str(number): one for number, one in enumerate(arrays)})
        checkpointer = self._checkpointer

        class Waiting:
            def wait(self) -> None:
                checkpointer.wait_until_finished()

        return Waiting()

    def restore(self, place: Path) -> Any:
        like = {str(number): np.empty(MIB * (1 << 20) // 128) for number in range(16)}
        return self._checkpointer.restore(place.absolute(), like)


def peer() -> Any:
    if PEER in ("pickle", "pickle_synced"):
        return ToFile(lambda v, f: pickle.dump(v, f, protocol=5), pickle.load, synced=PEER == "pickle_synced")
    if PEER == "cloudpickle":
        import cloudpickle

        return ToFile(cloudpickle.dump, cloudpickle.load, synced=False)
    if PEER == "joblib":
        import joblib

        return ToFile(joblib.dump, joblib.load, synced=False)
    return {"safetensors": Safetensors, "torch": TorchSave, "dcp": Dcp, "orbax": Orbax}[PEER]()


def main() -> None:
    way = peer()
    before = status("VmRSS")
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(MIB * (1 << 20) // 128) for _ in range(16)]
    said: dict[str, float] = {}
    for number, kind in enumerate(("full", "small")):
        if kind == "small":
            for array in arrays:
                count = array.size // 100
                start = int(rng.integers(0, array.size - count))
                array[start : start + count] += 1.0
        there = written()
        began = time.perf_counter()
        waiting = way.save(arrays, FOLDER / f"save{number}")
        said[f"stall_{kind}"] = time.perf_counter() - began
        waiting.wait()
        said[f"total_{kind}"] = time.perf_counter() - began
        said[f"bytes_{kind}"] = written() - there
    said["peak"] = status("VmHWM") - before
    expected = float(arrays[3][-1])
    began = time.perf_counter()
    found = way.restore(FOLDER / "save1")
    said["restore"] = time.perf_counter() - began
    third = found[3] if isinstance(found, list) else found["3"]
    said["equal"] = float(third[-1]) == expected
    print(json.dumps(said), flush=True)
    os._exit(0)  # what other packages do at the end of a process is not what is measured


if __name__ == "__main__":
    main()
