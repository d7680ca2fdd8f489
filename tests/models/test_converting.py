"""Pickles become safetensors in a child process, or nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.converting import convert
from models.errors import ToolFault
from tests.models.miniatures import pickled


class Opens:
    """Writes a file when it is unpickled without a guard."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self._path), "w")


def test_layouts_become_flat_names(tmp_path: Path) -> None:
    shared = torch.arange(6, dtype=torch.float16).reshape(2, 3)
    levels = torch.tensor([[0, 255], [7, 9]], dtype=torch.uint8)
    content = {
        "image_proj": {"latents": shared, "layers": {"0.weight": shared.T}},
        "diffusion_model.out.weight": (levels, torch.tensor(-0.5), 0.25),
    }
    (tmp_path / "a.bin").write_bytes(pickled(content))
    convert(tmp_path / "a.bin", tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    expected = {
        "image_proj.latents": shared,
        "image_proj.layers.0.weight": shared.T,
        "diffusion_model.out.weight.levels": levels,
        "diffusion_model.out.weight.range": torch.tensor([-0.5, 0.25]),
    }
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["code", "no tensor", "no pickle"])
def test_anything_but_tensors_is_refused_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    ran = tmp_path / "ran"
    content = {
        "code": pickled({"a": Opens(ran)}),
        "no tensor": pickled({"a": "text"}),
        "no pickle": b"not at all a pickle" * 9,
    }[kind]
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(ToolFault, match=r"a\.bin cannot be converted: [^\n]+\.$"):
        convert(tmp_path / "a.bin", tmp_path / "a.safetensors")
    assert not ran.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_child_that_needs_too_much_memory_or_time_is_ended(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(pickled({"a": torch.zeros(2**24)}))
    with pytest.raises(ToolFault, match="cannot be converted"):
        convert(tmp_path / "a.bin", tmp_path / "a.safetensors", memory=2**24)
    with pytest.raises(ToolFault, match=r"more than 0\.01 s"):
        convert(tmp_path / "a.bin", tmp_path / "a.safetensors", time_limit_s=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
