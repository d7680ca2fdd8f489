"""A decoded picture that is not finite is a fault, and never a black picture."""

import copy
from dataclasses import replace

import pytest
import torch

from pipelines.device import PlainDevice
from pipelines.errors import DrawingFault
from pipelines.stages.vae import DecodeLatent, DecodeStage
from pipelines.weights.family import Family
from tests.pipelines.studio import Studio, last, spec


def overflowing(family: Family) -> Family:
    """The same family with a VAE that decodes to infinity."""
    vae = copy.deepcopy(family.vae)
    bias = vae.get_parameter("decoder.conv_out.bias")
    bias.data = bias.data.clone().fill_(torch.inf)
    return replace(family, vae=vae)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_job_whose_picture_overflows_ends_with_a_fault(pocket_family: Family, ahead: bool) -> None:
    studio = Studio(overflowing(pocket_family), ahead=ahead)
    fault = last(studio.submit("one", spec(steps=1)))
    assert isinstance(fault, DrawingFault)
    assert "not finite" in str(fault)
    studio.drawer.close()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_value_is_enough(pocket_family: Family, value: float) -> None:
    stage = DecodeStage(pocket_family.vae, PlainDevice(pocket_family.device))
    latent = torch.zeros(4, 8, 8)
    with torch.inference_mode():
        (picture,) = stage.run([DecodeLatent(latent)]).values
        assert picture().shape == (64, 64, 3)
        latent[0, 3, 3] = value
        (spoilt,) = stage.run([DecodeLatent(latent)]).values
    with pytest.raises(DrawingFault):
        spoilt()
