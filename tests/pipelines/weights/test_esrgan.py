"""The upscaler's files: names as published ones have, sizes from the tensors, faults that say what is wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipelines.errors import WeightsFault
from pipelines.weights.esrgan import LazyUpscaler, Upscaler, read_upscaler


def written(path: Path, network: Upscaler, *, old: str = "RDB") -> Path:
    save_file({name.replace("RDB", old): tensor for name, tensor in network.state_dict().items()}, path)
    return path


def test_the_published_size_has_the_published_names() -> None:
    with torch.device("meta"):
        names = Upscaler(width=64, growth=32, blocks=23).state_dict()
    assert {"model.0.weight", "model.3.weight", "model.6.bias", "model.8.weight", "model.10.weight"} <= {*names}
    assert names["model.1.sub.22.RDB3.conv5.0.weight"].shape == (64, 64 + 4 * 32, 3, 3)
    assert names["model.1.sub.23.weight"].shape == (64, 64, 3, 3)
    assert len(names) == 2 * (23 * 3 * 5 + 6)
    assert sum(tensor.numel() for tensor in names.values()) == 16_697_987  # 33.4 MB as fp16


@pytest.mark.parametrize("old", ["RDB", "residual_block_"])
def test_what_is_read_draws_as_what_was_written(tmp_path: Path, old: str) -> None:
    network = Upscaler(width=8, growth=4, blocks=2).eval()
    found = read_upscaler(written(tmp_path / "upscaler.safetensors", network, old=old))
    picture = torch.rand(2, 3, 6, 5)
    with torch.inference_mode():
        assert torch.equal(found(picture), network(picture))
        assert found(picture).shape == (2, 3, 24, 20)


def test_blocks_add_a_fifth_of_what_they_say() -> None:
    network = Upscaler(width=2, growth=1, blocks=1)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            tensor.zero_()
            if name.endswith("conv5.0.bias"):
                tensor.fill_(1.0)  # each dense block says 1 wherever it is asked
        block = network.get_submodule("model.1.sub.0")
        assert torch.allclose(block(torch.zeros(1, 2, 3, 3)), torch.tensor(0.2 * 3 * 0.2))


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"conv_first.weight": torch.zeros(8, 3, 3, 3)}, path)
    with pytest.raises(WeightsFault, match=r"other\.safetensors is of another architecture"):
        read_upscaler(path)
    tensors = Upscaler(width=8, growth=4, blocks=1).state_dict()
    del tensors["model.10.bias"]
    save_file(tensors, path)
    with pytest.raises(WeightsFault, match=r"model\.10\.bias"):
        read_upscaler(path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_upscaler(path)


def test_it_is_read_when_it_is_first_asked_for_and_once(tmp_path: Path) -> None:
    path = written(tmp_path / "upscaler.safetensors", Upscaler(width=8, growth=4, blocks=1))
    asked: list[Path] = []

    def find() -> Path:
        asked.append(path)
        return path

    upscaler = LazyUpscaler(find, torch.device("cpu"), torch.float32)
    assert asked == []
    assert upscaler.get() is upscaler.get()
    assert asked == [path]
    assert {each.dtype for each in upscaler.get().parameters()} == {torch.float32}
