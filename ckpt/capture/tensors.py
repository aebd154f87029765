"""torch tensors in a state: storages that tensors share are saved once and shared again; small slices go without the rest.

A tensor's own reduction is kept but for its storage. torch pickles that anew for each tensor, which would tear views apart;
here one object stands for it, and its bytes travel out of band. Where one tensor alone uses a storage, only the part that
it spans is saved. As with arrays (``arrays``) sharing is known only when every tensor was seen, so pickling may run twice.

Storages of other devices are saved by torch's own reduction, whole, once each. A leaf keeps its ``grad``; what a tensor was
computed from is not saved: it comes back as a leaf. Tensors over memory of arrays are refused where both are in the state.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from ckpt.capture.arrays import bounds_of
from ckpt.codecs.pickling import OutOfBand
from ckpt.errors import UncapturableError


def is_tensor_type(kind: type) -> bool:
    return issubclass(kind, _torch_classes("Tensor"))


def is_storage_type(kind: type) -> bool:
    return issubclass(kind, _torch_classes("UntypedStorage", "TypedStorage"))


def _torch_classes(*names: str) -> tuple[type, ...]:
    torch = sys.modules.get("torch")
    # Absent while another thread imports torch: then there are no tensors yet.
    return tuple(vars(torch)[name] for name in names if name in vars(torch)) if torch is not None else ()


class Stored:
    """Stands for one storage in a pickle, or for the bytes from ``start`` to ``stop`` of it. Comes back as an UntypedStorage."""

    __slots__ = ("_start", "_stop", "_storage")

    def __init__(self, storage: Any, start: int, stop: int) -> None:
        self._storage, self._start, self._stop = storage, start, stop

    def __reduce__(self) -> Any:
        if self._storage.device.type != "cpu":
            return self._storage.__reduce__()
        if self._start == self._stop:
            return make_storage, (b"",)
        memory = (ctypes.c_char * (self._stop - self._start)).from_address(self._storage.data_ptr() + self._start)
        memory.owner = self._storage  # type: ignore[attr-defined]
        return make_storage, (OutOfBand(memory),)


class Typed:
    """Comes back as a TypedStorage over ``stored``."""

    __slots__ = ("_dtype", "_stored")

    def __init__(self, stored: Stored, dtype: Any) -> None:
        self._stored, self._dtype = stored, dtype

    def __reduce__(self) -> tuple[Any, ...]:
        return make_typed_storage, (self._stored, self._dtype)


def make_storage(memory: Any) -> Any:
    """A storage of its own with these bytes: aligned as torch aligns, and resizable."""
    import torch

    storage = torch.UntypedStorage(len(memory))
    if len(memory):
        storage.copy_(torch.frombuffer(memory, dtype=torch.uint8).untyped_storage())
    return storage


def make_typed_storage(storage: Any, dtype: Any) -> Any:
    import torch

    return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


def set_grad(tensor: Any, grad: Any) -> None:
    tensor.grad = grad


class SharedStorages:
    """Decides, tensor by tensor, how one pickling pass saves it. Its methods are those of ``arrays.SharedMemory``."""

    def __init__(self) -> None:
        self._shared: set[int] = set()
        self._seen: dict[int, tuple[Any, int]] = {}
        self._whole: dict[int, Stored] = {}

    def begin(self) -> None:
        self._seen.clear()
        self._whole.clear()

    def found_sharing(self, arrays: list[Any]) -> bool:
        """End a pass. UncapturableError if tensors share memory in another way than by a storage: with ``arrays``, too."""
        if self._seen:
            self._refuse_overlap(arrays)
        new = {key for key, (_, count) in self._seen.items() if count > 1} - self._shared
        self._shared |= new
        return bool(new)

    def end(self) -> None:
        self._shared &= {key for key, (_, count) in self._seen.items() if count > 1}
        self.begin()

    def reduce(self, tensor: Any) -> Any:
        make, arguments, *rest = tensor.__reduce_ex__(5)
        if make.__name__ in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            arguments = self._with_storage(tensor, arguments)
        if tensor.is_leaf and tensor.grad is not None:
            if rest:
                raise UncapturableError(f"a {type(tensor).__name__} with a gradient", fix="set its grad to None before the loop goes on")
            return make, arguments, tensor.grad, None, None, set_grad
        return (make, arguments, *rest)

    def reduce_storage(self, storage: Any) -> Any:
        untyped = getattr(storage, "_untyped_storage", storage)
        self._note(untyped, 2)  # others may see all of it through this object
        whole = self._of_whole(untyped)
        return Typed(whole, storage.dtype).__reduce__() if untyped is not storage else (_itself, (whole,))

    def _with_storage(self, tensor: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """``arguments`` of a rebuild function (storage, offset, size, stride, ...) with what stands for the storage."""
        given, offset, *others = arguments
        storage = tensor.untyped_storage()
        self._note(storage, 1)
        if storage.device.type != "cpu" or storage._cdata in self._shared:
            stored = self._of_whole(storage)
        else:
            last = sum((length - 1) * stride for length, stride in zip(tensor.shape, tensor.stride(), strict=True))
            item = tensor.element_size()
            stop = (offset + last + 1) * item if tensor.numel() else offset * item
            stored = Stored(storage, offset * item, stop)
            offset = 0
        # torch gives newer types an untyped storage, which its rebuild function takes from torch's own loader only.
        dtype = tensor.dtype if hasattr(given, "_untyped_storage") else sys.modules["torch"].uint8
        return (Typed(stored, dtype), offset, *others)

    def _note(self, storage: Any, uses: int) -> None:
        _, count = self._seen.get(storage._cdata, (storage, 0))
        self._seen[storage._cdata] = storage, count + uses

    def _of_whole(self, storage: Any) -> Stored:
        key = storage._cdata
        if key not in self._whole:
            self._whole[key] = Stored(storage, 0, storage.nbytes())
        return self._whole[key]

    def _refuse_overlap(self, arrays: list[Any]) -> None:
        spans = [
            (storage.data_ptr(), storage.data_ptr() + storage.nbytes(), True)
            for storage, _ in self._seen.values()
            if storage.device.type == "cpu" and storage.nbytes()
        ]
        spans += [(*bounds_of(array), False) for array in arrays if array.nbytes]
        end_of_storages = end_of_all = 0
        for start, stop, is_storage in sorted(spans):
            if start < (end_of_all if is_storage else end_of_storages):
                raise UncapturableError(
                    "a tensor shares its memory with an array, or with a tensor that was made from the same array",
                    fix="copy it: t = t.clone(), or torch.tensor(a) instead of torch.from_numpy(a)",
                )
            end_of_all = max(end_of_all, stop)
            end_of_storages = max(end_of_storages, stop) if is_storage else end_of_storages


def _itself(value: Any) -> Any:
    return value
