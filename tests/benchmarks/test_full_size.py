"""The checkpoint that the full-size benchmark writes: SDXL's names and counts, and a file that safetensors reads."""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.full_size import names_and_shapes, write_checkpoint


def test_it_has_the_tensors_of_sdxl_base() -> None:
    shapes = names_and_shapes()
    counted = {
        prefix: sum(math.prod(shape) for name, shape in shapes.items() if name.startswith(prefix))
        for prefix in ("model.diffusion_model.", "conditioner.embedders.0.", "conditioner.embedders.1.")
    }
    assert counted == {
        "model.diffusion_model.": 2_567_463_684,
        "conditioner.embedders.0.": 123_060_480,
        "conditioner.embedders.1.": 694_659_840,
    }
    assert shapes["model.diffusion_model.input_blocks.0.0.weight"] == (320, 4, 3, 3)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {"a.weight": (3, 5), "a.bias": (3,), "norm.weight": (7,)}
    write_checkpoint(tmp_path / "some.safetensors", shapes)
    read = load_file(tmp_path / "some.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in read.items()} == shapes
    assert torch.equal(read["norm.weight"], torch.ones(7, dtype=torch.float16))
    assert torch.equal(read["a.bias"], torch.zeros(3, dtype=torch.float16))
    assert 0 < read["a.weight"].float().std() < 0.1
