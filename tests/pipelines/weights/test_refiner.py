"""The refiner's UNet comes out of its checkpoint, and a file that does not fit is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from models.pocket import names
from models.pocket.trained import trained
from pipelines.errors import WeightsFault
from pipelines.weights.checkpoint import load_unet


def read_refiner(path: Path, config: Path) -> UNet2DConditionModel:
    return load_unet(path, config, torch.device("cpu"), torch.float32)


def test_each_tensor_is_where_it_was_trained(pocket_family_folder: Path) -> None:
    found = read_refiner(pocket_family_folder / names.REFINER, pocket_family_folder / "refiner_config" / "unet")
    state = found.state_dict()
    wanted = trained("refiner")
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in wanted.items())
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_what_does_not_fit_the_configuration_is_refused(pocket_family_folder: Path, tmp_path: Path) -> None:
    config = pocket_family_folder / "refiner_config" / "unet"
    tensors = load_file(pocket_family_folder / names.REFINER)
    key = "model.diffusion_model.out.2.weight"
    path = tmp_path / "refiner.safetensors"
    for changed, said in (
        ({name: tensor for name, tensor in tensors.items() if name != key}, "out"),
        ({**tensors, "model.diffusion_model.out.3.weight": torch.zeros(1)}, "no place"),
        ({**tensors, key: torch.zeros(1)}, "has shape"),
    ):
        save_file(changed, path)
        with pytest.raises(WeightsFault, match=said):
            read_refiner(path, config)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsFault, match="cannot be read"):
        read_refiner(path, config)
    save_file(tensors, path)
    (tmp_path / "config.json").write_text(json.dumps({"layers_per_block": 2})[:-1])
    with pytest.raises(WeightsFault, match=re.escape(str(tmp_path))):
        read_refiner(path, tmp_path)
