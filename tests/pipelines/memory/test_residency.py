"""Residency: models that come to the device when they are used, and leave it by least recent use."""

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from pipelines.errors import DrawingFault
from pipelines.memory.plan import MemoryPlan
from pipelines.memory.residency import RESIDENT, OnDemand, Traffic, residency_of

CPU = torch.device("cpu")
SIZE = 4 * 10 * 10  # bytes of a layer's weight


def layer() -> nn.Linear:
    return nn.Linear(10, 10, bias=False).requires_grad_(False)


def is_there(residency: OnDemand, module: nn.Module) -> bool:
    """Whether all of a module is on the device, whose copies are others than the host's."""
    return all(_is_there(residency, each) for each in (*module.parameters(), *module.buffers()))


def _is_there(residency: OnDemand, tensor: Tensor) -> bool:
    return tensor.data_ptr() != residency.home(tensor).data_ptr()


def there(residency: OnDemand, modules: Sequence[nn.Module]) -> list[bool]:
    return [is_there(residency, module) for module in modules]


def test_what_was_used_longest_ago_leaves() -> None:
    one, two, three = layers = [layer() for _ in range(3)]
    residency = OnDemand(CPU, 2 * SIZE)
    for module in (one, two, one, three):
        residency.bring(module)
        assert is_there(residency, module)
        assert residency.held_bytes <= 2 * SIZE
    assert there(residency, layers) == [True, False, True]


def test_no_more_leaves_than_makes_room() -> None:
    large, small = nn.Sequential(layer(), layer(), layer()), layer()
    residency = OnDemand(CPU, 3 * SIZE)
    residency.bring(large)
    residency.bring(small)
    assert there(residency, [*large]) == [False, True, True]
    residency.bring(large)
    assert residency.traffic() == Traffic(parts=3, bytes=5 * SIZE)


def test_weights_are_the_same_wherever_they_are_and_home_is_always_the_hosts() -> None:
    module, other = layer(), layer()
    values, home = module.weight.clone(), module.weight.data_ptr()
    residency = OnDemand(CPU, SIZE)
    assert residency.home(module.weight).data_ptr() == home
    residency.bring(module)
    assert torch.equal(module.weight, values)
    assert residency.home(module.weight).data_ptr() == home
    residency.bring(other)
    assert module.weight.data_ptr() == residency.home(module.weight).data_ptr() == home
    assert torch.equal(module.weight, values)


def test_parameters_that_modules_share_are_counted_and_brought_once() -> None:
    shared = layer()
    one, two = nn.Sequential(shared, layer()), nn.Sequential(shared, layer())
    residency = OnDemand(CPU, 3 * SIZE)
    residency.bring(one)
    residency.bring(two)
    assert there(residency, (one, two)) == [True, True]
    assert residency.held_bytes == 3 * SIZE
    assert residency.traffic() == Traffic(parts=2, bytes=3 * SIZE)


def test_what_a_module_shares_with_the_oldest_stays_when_it_is_brought() -> None:
    shared = layer()
    one, two = nn.Sequential(shared, layer()), nn.Sequential(shared, layer())
    residency = OnDemand(CPU, 2 * SIZE)
    residency.bring(one)
    residency.bring(two)
    assert there(residency, (shared, two[1], one[1])) == [True, True, False]
    assert residency.traffic().bytes == 3 * SIZE


def test_buffers_are_brought_too() -> None:
    module = nn.BatchNorm1d(10)
    residency = OnDemand(CPU, SIZE)
    residency.bring(module)
    assert is_there(residency, module)
    assert residency.held_bytes == 4 * 40 + 8


def test_a_model_that_was_let_go_is_gone_with_what_it_had_on_the_device() -> None:
    shared = layer()
    base = nn.Sequential(shared, layer())
    residency = OnDemand(CPU, 3 * SIZE)
    residency.bring(base)
    gone = [weakref.ref(each) for each in (base, base[1].weight, residency.home(base[1].weight))]
    del base
    gc.collect()
    assert [ref() is None for ref in gone] == [True, True, True]
    assert residency.held_bytes == SIZE
    assert is_there(residency, shared)


def test_the_layout_of_weights_is_kept() -> None:
    module = nn.Conv2d(4, 8, 3).requires_grad_(False)
    module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    residency = OnDemand(CPU, 2**20)
    with torch.inference_mode():  # as the engine runs
        residency.bring(module)
    assert is_there(residency, module)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert not module.weight.is_inference()


def test_a_module_that_does_not_fit_alone_is_refused_by_figures_and_nothing_leaves() -> None:
    small, large = layer(), nn.Linear(1024, 1024, bias=False)
    residency = OnDemand(CPU, 2**20)
    residency.bring(small)
    with pytest.raises(DrawingFault, match=r"Linear has 4\.0 MiB of weights.* leaves 1\.0 MiB"):
        residency.bring(large)
    assert there(residency, (small, large)) == [True, False]


def test_a_plan_says_whether_anything_is_brought() -> None:
    plan = MemoryPlan(memory=0, resident=True, parts=1, working=0, merged=0, row_pixel=1)
    module = layer()
    for given in (None, plan):
        residency = residency_of(given, CPU)
        residency.bring(module)
        assert residency is RESIDENT
        assert residency.home(module.weight) is module.weight
        assert residency.traffic() == Traffic()
