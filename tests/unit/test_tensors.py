"""torch tensors in a state: exact, out of band, and what shares a storage shares it again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unit.capture_support import check_resumed, through_a_state, tick

import ckpt
from ckpt.capture.graph import Graph
from ckpt.capture.rebuild import Scene
from ckpt.capture.visible import Visible
from ckpt.errors import UncapturableError

torch = pytest.importorskip("torch")


def dumped(value: Any) -> tuple[bytes, list[Any]]:
    return Graph(Visible(), lambda kind: None).dump(value, Scene([], []))


def base() -> Any:
    return torch.arange(9000.0).reshape(90, 100)


KEPT = {
    "contiguous": base,
    "transposed": lambda: base().T,
    "strided": lambda: base()[::2, 3::7],
    "one column": lambda: base()[:, 5],
    "no dimension": lambda: torch.tensor(2.5),
    "empty": lambda: torch.empty(0, 3),
    "empty view": lambda: base()[5:5],
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "complex, conjugated": lambda: (torch.arange(5) + 1j).conj(),
    "requires grad": lambda: base().requires_grad_(),
    "channels last": lambda: torch.rand(2, 3, 8, 8).to(memory_format=torch.channels_last),
    **{
        str(dtype): lambda dtype=dtype: torch.arange(4000).to(dtype)
        for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.uint8, torch.int64, torch.bool, torch.uint16)
    },
    "sparse": lambda: torch.eye(50).to_sparse(),
    "of 8 bits": lambda: torch.ones(3000).to(torch.float8_e5m2),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("name", KEPT)
def test_contents_type_and_layout_are_kept(name: str) -> None:
    before = KEPT[name]()
    after = through_a_state([before])[0]
    assert (after.dtype, after.shape, after.requires_grad) == (before.dtype, before.shape, before.requires_grad)
    assert after.layout == before.layout
    if before.layout == torch.strided:
        assert after.stride() == before.stride()
        assert after.is_conj() == before.is_conj()
    assert after.detach().to_dense().tolist() == before.detach().to_dense().tolist()


def test_contents_are_out_of_band_and_not_copied_on_their_way_out() -> None:
    tensor = base()
    skeleton, [buffer] = dumped([tensor])
    assert len(skeleton) < 1000
    assert np.frombuffer(buffer.raw(), np.uint8).ctypes.data == tensor.data_ptr()


def test_views_of_one_storage_save_it_once_and_share_it_again() -> None:
    whole = base()
    assert [buffer.raw().nbytes for buffer in dumped([whole, whole[3:], whole.T])[1]] == [36_000]
    first, second, turned, storage = through_a_state([whole, whole[3:], whole.T, whole.untyped_storage()])
    second[0, 1] = -1
    assert first[3, 1] == turned[1, 3] == -1
    assert storage.data_ptr() == first.data_ptr()


def test_two_slices_of_a_storage_that_is_not_there_share_it_again() -> None:
    first, second = through_a_state([base()[:50], base()[3:]])
    first[4, 0] = -1
    assert second[1, 0] == 400  # two bases: apart before, apart now
    whole = base()
    first, second = through_a_state([whole[:50], whole[3:]])
    first[4, 0] = -1
    assert second[1, 0] == -1


def test_a_small_slice_saves_only_what_it_spans() -> None:
    part = torch.zeros(1_000_000)[500_000:501_000]
    assert [buffer.raw().nbytes for buffer in dumped(part)[1]] == [4000]
    after = through_a_state(part)
    assert after.untyped_storage().nbytes() == 4000
    after.resize_(5000)  # its memory is torch's own


def test_a_parameter_and_its_gradient_come_back() -> None:
    layer = torch.nn.Linear(40, 30)
    layer(torch.ones(40)).sum().backward()
    after, weight = through_a_state([layer, layer.weight])
    assert after.weight is weight
    assert type(weight) is torch.nn.Parameter
    assert torch.equal(weight.grad, layer.weight.grad)
    assert torch.equal(weight, layer.weight)


def test_a_tensor_over_the_memory_of_an_array_is_refused_beside_it() -> None:
    array = np.zeros(5000)
    for value in ([array, torch.from_numpy(array)], [torch.from_numpy(array), torch.from_numpy(array)]):
        with pytest.raises(UncapturableError, match="shares its memory"):
            dumped(value)
    tensor = torch.zeros(5000)
    with pytest.raises(UncapturableError, match="shares its memory"):
        dumped([tensor.numpy(), tensor])
    assert through_a_state(torch.from_numpy(array)).tolist() == array.tolist()


@ckpt.job
def training(size: int) -> Any:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(size, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    tied = model[0].weight
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    log = torch.zeros(4000, dtype=torch.bfloat16)
    row = log[10:20]
    for step in ckpt.loop(range(4)):
        loss = (model(torch.rand(16, size)) ** 2).mean()
        loss.backward()
        tick()
        optimizer.step()
        row[step] = step + 1
        tick()
    return [p.tolist() for p in model.parameters()], tied is model[0].weight, log.tolist(), float(loss)


def test_training_goes_on_as_if_it_never_died(tmp_path: Path) -> None:
    check_resumed(training, tmp_path / "store", lambda: (70,))
