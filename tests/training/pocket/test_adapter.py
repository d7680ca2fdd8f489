"""An adapter in training and the LoRA file that it becomes are the same change."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from pipelines.weights.family import Family
from pipelines.weights.lora.changes import merged
from pipelines.weights.lora.matching import Targets
from pipelines.weights.lora.reading import read_lora
from training.pocket.adapter import Adapter


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3)
        self.end = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.end(self.entry(x).mean(dim=(2, 3)))
        return answer


def _stirred(adapter: Adapter) -> Adapter:
    with torch.no_grad():
        for up in adapter.ups.values():
            up.normal_()
    return adapter


def test_it_begins_as_no_change() -> None:
    network, x = Small(), torch.rand(2, 3, 5, 5)
    assert torch.equal(Adapter(network, 2).changed()(x), network(x))


def test_the_change_grows_with_its_scale_and_leaves_the_network_alone() -> None:
    network, x = Small(), torch.rand(2, 3, 5, 5)
    adapter = _stirred(Adapter(network, 2, lambda name: name == "end"))
    plain = network(x)
    whole, half = adapter.changed()(x) - plain, adapter.changed(0.5)(x) - plain
    assert whole.abs().max() > 0.01
    assert torch.allclose(half, whole / 2, atol=1e-5)
    assert torch.equal(network(x), plain)


def test_it_learns_and_the_network_does_not() -> None:
    network = Small().requires_grad_(False)
    adapter = Adapter(network, 2)
    adapter.changed()(torch.rand(2, 3, 5, 5)).sum().backward()
    assert all(up.grad is not None for up in adapter.ups.values())
    assert {name.split(".")[0] for name in adapter.state_dict()} == {"downs", "ups"}


def test_its_file_is_read_as_the_same_change(pocket_family: Family, tmp_path: Path) -> None:
    unet = pocket_family.unet
    adapter = _stirred(Adapter(unet, 4))
    save_file({name: tensor.contiguous() for name, tensor in adapter.stored().items()}, tmp_path / "a.safetensors")
    match = Targets(unet, pocket_family.text_encoders).match(read_lora(tmp_path / "a.safetensors"))
    assert not match.unmatched
    wanted = adapter.weights(0.3)
    found = {name: layer for (component, name), layer in match.layers.items() if component == "unet"}
    assert found.keys() == wanted.keys()
    for name, layer in found.items():
        assert torch.allclose(merged(unet.get_parameter(name), [(layer, 0.3)]), wanted[name], atol=1e-4), name


def test_it_goes_on_from_what_was_stored() -> None:
    network, x = Small(), torch.rand(2, 3, 5, 5)
    before, after = _stirred(Adapter(network, 2)), Adapter(network, 2)
    after.begin_as(before.stored())
    assert torch.equal(after.changed()(x), before.changed()(x))
    torch.testing.assert_close(network.end.weight + after.changes()["end.weight"], before.weights()["end.weight"])
