"""Footprints: what is counted without memory is what models and their calls hold on a device that is there."""

from collections.abc import Callable

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch.profiler import ProfilerActivity, profile

from pipelines.errors import WeightsFault
from pipelines.memory.counting import LiveBytes, counted_on_meta
from pipelines.memory.footprint import bytes_of, measure, row_bytes, run_row, unet_of, vae_bytes
from pipelines.memory.plan import GB
from pipelines.memory.planning import plan_for
from pipelines.parts import CONFIGS
from pipelines.weights.checkpoint import read_config
from pipelines.weights.control_lora import build_control
from pipelines.weights.esrgan import read_upscaler
from pipelines.weights.family import Family
from pipelines.weights.refiner import load_refiner

CPU = torch.device("cpu")
SDXL = unet_of(CONFIGS / "sdxl_base", torch.float16)


def test_a_tensor_is_counted_while_it_lives_and_views_of_it_are_not() -> None:
    before = torch.zeros(1000)
    with LiveBytes() as count:
        first = torch.zeros(100)
        view = first[:50].view(5, 10)
        before.t()
        del first
        assert count.most == 400
        second = torch.ones(25) + 1  # two, of which one is gone then
        assert count.most == 600
        del view, second
        torch.zeros(100)
    assert count.most == 600


def test_attention_is_counted_without_its_scores() -> None:
    with torch.device("meta"), counted_on_meta() as count:
        q, k = torch.zeros(1, 1, 1000, 10), torch.zeros(1, 1, 2000, 10)
        torch.nn.functional.scaled_dot_product_attention(q, key=k, value=k)
    assert count.most == 4 * (10_000 + 20_000 + 10_000)


@pytest.mark.parametrize("controlled", [False, True])
@torch.no_grad()
def test_rows_of_a_real_unet_hold_what_was_counted(pocket_family: Family, controlled: bool) -> None:
    counted = unet_of(pocket_family.catalogue.config, torch.float32)
    for side, rows in ((8, 1), (16, 2)):
        with LiveBytes() as count:
            run_row(pocket_family.unet, side, controlled=controlled, rows=rows)
        assert count.most == row_bytes(counted, side, controlled=controlled, rows=rows)


@torch.no_grad()
def test_torchs_own_profiler_sees_the_same_but_for_what_kernels_use_inside(pocket_family: Family) -> None:
    config, vae = pocket_family.catalogue.config, pocket_family.vae
    unet = unet_of(config, torch.float32)
    with torch.device("meta"):
        without = AutoencoderKL.from_config(read_config(config / "vae"))
    run = peak(lambda: run_row(pocket_family.unet, 32, controlled=True))
    assert 1 <= run / row_bytes(unet, 32, controlled=True) < 1.1
    latent = torch.zeros(1, 4, 32, 32)
    assert peak(lambda: vae.decode(latent, return_dict=False)) == pytest.approx(vae_bytes(without, 32), rel=0.01)


def test_what_calls_hold_grows_with_rows_and_pixels() -> None:
    one = row_bytes(SDXL, 64, controlled=True)
    assert row_bytes(SDXL, 64, controlled=True, rows=4) == pytest.approx(4 * one, rel=0.01)
    assert row_bytes(SDXL, 128, controlled=True) == pytest.approx(4 * one, rel=0.01)


def test_a_row_of_sdxl_takes_what_an_earlier_count_found() -> None:
    assert row_bytes(SDXL, 128, controlled=False) == pytest.approx(166e6, rel=0.01)


def test_models_and_parts_take_what_they_take_when_loaded(pocket_family: Family) -> None:
    catalogue, found = pocket_family.catalogue, measure(pocket_family.catalogue, CPU, torch.float32)
    assert found.unet == bytes_of(pocket_family.unet)
    assert found.text_encoders == sum(bytes_of(each) for each in pocket_family.text_encoders)
    assert found.vae == bytes_of(pocket_family.vae)
    assert found.optional["upscaler"] == bytes_of(read_upscaler(catalogue.part("upscaler")))
    refiner = load_refiner(catalogue.part("refiner"), catalogue.refiner_config, CPU, torch.float32)
    assert found.optional["refiner"] == bytes_of(refiner.unet)
    ours = {id(parameter) for parameter in pocket_family.unet.parameters()}
    for part in ("canny", "cpds"):
        network = build_control(pocket_family.unet, catalogue.part(part))
        own = [parameter for parameter in network.parameters() if id(parameter) not in ours]
        assert found.optional[part] == found.control == sum(parameter.nbytes for parameter in own)
    half = measure(catalogue, torch.device("cuda"), torch.float16)
    assert (half.unet, half.control) == (found.unet // 2, found.control // 2)
    assert half.text_encoders == found.text_encoders


def test_a_plan_is_made_for_a_device_or_for_what_is_given(pocket_family: Family) -> None:
    catalogue = pocket_family.catalogue
    assert plan_for(catalogue, CPU, torch.float32, rows=8) is None
    plan = plan_for(catalogue, CPU, torch.float32, rows=8, memory_gb=2.5, variant_budget_mb=100)
    assert plan is not None
    assert (plan.memory, plan.resident, plan.merged) == (int(2.5 * GB), True, 100 * 2**20)
    tight = plan_for(catalogue, CPU, torch.float32, rows=8, memory_gb=1.4)
    assert tight is not None
    assert not tight.resident
    with pytest.raises(WeightsFault, match="pocket needs at least"):
        plan_for(catalogue, CPU, torch.float32, rows=8, memory_gb=1)


def peak(run: Callable[[], object]) -> int:
    """The most bytes that tensors and kernels held at one time, by torch's own record of the allocator."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    now = most = 0
    for _, size in sorted((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]"):
        now += size
        most = max(most, now)
    return most
