"""The face for judges, held to truths from elsewhere: formulas written out, diffusers, transformers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import reference
from tests.reference import Models, Prompt, Refused, Row, Settings

SIDE = 128
SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
EULER = Settings(sampler="euler", schedule="sgm_uniform", steps=4, width=SIDE, height=SIDE)
# numpy 2 warns of what diffusers does to tensors while it makes its schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(pocket_family_folder: Path) -> Path:
    return pocket_family_folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Models:
    return reference.load_models(folder)


@pytest.fixture(scope="module")
def prompts(models: Models) -> tuple[Prompt, Prompt]:
    first, second = (reference.encode_text([text], models) for text in ("a red circle", "a green star"))
    return first, second


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# -- levels and samplers


def test_levels_are_those_of_diffusers_and_of_the_published_tables() -> None:
    scheduler: Any = EulerDiscreteScheduler(**SDXL, use_karras_sigmas=True, timestep_spacing="linspace")
    scheduler.set_timesteps(30)
    torch.testing.assert_close(reference.sigmas("karras", 30), scheduler.sigmas, rtol=1e-4, atol=0)
    lcm = [reference.timestep(sigma, "lcm") for sigma in reference.sigmas("lcm", 8)[:-1].tolist()]
    assert lcm == [999, 879, 759, 639, 499, 379, 259, 139]
    tail = reference.sigmas("tail", 8, denoise=0.6)
    assert (len(tail), reference.timestep(float(tail[0]))) == (9, 599)
    half = reference.sigmas("karras", 15, denoise=0.5)
    torch.testing.assert_close(half, reference.sigmas("karras", 30)[-16:])
    assert reference.sigma_at(999) == pytest.approx(14.6146, abs=1e-4)
    last = float(reference.sigmas("karras", 6, sampler="uni_pc")[-2])
    assert last == pytest.approx(float(reference.sigmas("karras", 7)[-3]))


def test_a_mode_is_what_its_endpoint_makes_of_it() -> None:
    speed, lightning = reference.mode("Speed", scale=5.0), reference.mode("Lightning")
    assert (speed["sampler"], speed["schedule"], speed["steps"]) == ("dpmpp_2m_sde", "karras", 30)
    assert (speed["scale"], speed["mimicked"], speed["sharpness"], speed["sizes"]) == (5.0, 7.0, 2.0, (1.5, 0.8, 0.3))
    assert (lightning["sampler"], lightning["steps"], lightning["scale"]) == ("euler", 4, 1.0)
    start = reference.asked(
        "fal-ai/fast-fooocus-sdxl/image-to-image", {"prompt": "a", "image_url": "https://a.example/b", "strength": 0.6}
    )
    assert (start["settings"]["schedule"], start["settings"]["denoise"]) == ("tail", 0.6)
    with pytest.raises(Refused) as caught:
        reference.asked("fal-ai/fooocus", {"performance": "Slow"})
    assert caught.value.kind == "one_of"


def gaussian(x: Tensor, sigma: float) -> Tensor:
    """The denoiser of data that are standard normal, for which everything is known."""
    return x / (1 + sigma**2)


@pytest.mark.parametrize(("name", "near"), [("euler", 5e-2), ("heun", 2e-3), ("dpmpp_2m", 2e-3), ("uni_pc", 2e-3)])
def test_solvers_follow_the_flow_of_normal_data(name: str, near: float) -> None:
    levels = reference.sigmas("karras", 60)
    x = normal(1, 1, 4, 8, 8)[0] * levels[0]
    exact = x / (1 + levels[0] ** 2) ** 0.5
    torch.testing.assert_close(reference.sample(name, x, levels, gaussian), exact, atol=near, rtol=near)


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde", "dpmpp_sde"])
@pytest.mark.parametrize("own", [True, False], ids=["noise of a seed", "noise of a function"])
def test_stochastic_samplers_end_with_normal_data(name: str, own: bool) -> None:
    levels = reference.sigmas("karras", 100)
    seeds = iter(range(100, 400))
    x = normal(1, 4, 32, 32) * levels[0]
    found = reference.sample(name, x, levels, gaussian, 7 if own else lambda *_: normal(next(seeds), 4, 32, 32))
    assert float(found.std()) == pytest.approx(1, abs=0.06)
    assert float(np.corrcoef(found.flatten(), x.flatten())[0, 1]) < 0.9


def test_lcm_and_tcd_add_the_noise_that_they_are_given() -> None:
    levels, asked = reference.sigmas("lcm", 2), []

    def noise(sigma: float, after: float) -> Tensor:
        asked.append((sigma, after))
        return torch.full((4, 8, 8), 0.5)

    found = reference.sample("lcm", normal(1, 4, 8, 8), levels, lambda x, sigma: x / 10, noise)
    torch.testing.assert_close(found, (normal(1, 4, 8, 8) / 10 + levels[1] * 0.5) / 10)
    assert asked == [(pytest.approx(float(levels[0])), pytest.approx(float(levels[1])))]
    reference.sample("tcd", normal(1, 4, 8, 8), levels, lambda x, sigma: x / 10, noise)
    assert len(asked) == 2


def test_brownian_ways_are_increments_of_one_path() -> None:
    shape = (4, 64, 64)
    (whole,) = reference.brownian(3, shape, 0.03, 14.6, [(9.0, 1.0)])
    high, low = reference.brownian(3, shape, 0.03, 14.6, [(9.0, 4.0), (4.0, 1.0)])
    torch.testing.assert_close(whole * 8**0.5, high * 5**0.5 + low * 3**0.5, atol=1e-5, rtol=0)
    assert float(high.std()) == pytest.approx(1, abs=0.03)
    assert abs(float((high * low).mean())) < 0.03


def test_consistency_is_its_formula() -> None:
    clean, x, scaled = normal(1, 4, 8, 8), normal(2, 4, 8, 8), 10 * 139
    wanted = clean * scaled / math.sqrt(scaled**2 + 0.25) + x * 0.25 / (scaled**2 + 0.25)
    torch.testing.assert_close(reference.consistency(clean, x, 139), wanted)


# -- guidance


def test_sharpening_equals_the_formula_pixel_by_pixel() -> None:
    eps, guide = normal(1, 1, 4, 8, 9), normal(2, 1, 4, 8, 9)
    near = ((guide - guide.mean()) / (guide.std() + 1e-5))[0].numpy()
    signal, filtered = eps[0].numpy(), np.zeros((4, 8, 9))
    for y in range(8):
        for x in range(9):
            total, weights = np.zeros(4), 0.0
            for dy in range(-6, 7):
                for dx in range(-6, 7):
                    # reflected without repeating the edge
                    v, u = 7 - abs(7 - abs(y + dy)), 8 - abs(8 - abs(x + dx))
                    distance = np.abs(near[:, v, u] - near[:, y, x]).sum()
                    weight = math.exp(-(dy**2 + dx**2 + distance**2) / 18)
                    total, weights = total + weight * signal[:, v, u], weights + weight
            filtered[:, y, x] = total / weights
    wanted = 0.01 * filtered + 0.99 * signal
    np.testing.assert_allclose(reference.sharpen(eps, guide, 20.0, 0.5)[0].numpy(), wanted, atol=1e-5)
    np.testing.assert_allclose(reference.joint_bilateral(eps, guide)[0].numpy(), filtered, atol=1e-5)


def test_an_evaluation_is_the_unets_predictions_guided_by_formula(
    models: Models, prompts: tuple[Prompt, Prompt]
) -> None:
    settings = EULER | Settings(scale=9.0, mimicked=7.0, sharpness=20.0, rescale=0.7, sizes=(1.5, 0.8, 0.9))
    x, sigma = normal(1, 4, 16, 16) * 2, 1.6
    timestep = reference.timestep(sigma)
    told = [torch.tensor([[192.0, 192, 0, 0, 128, 128]]), torch.tensor([[102.0, 102, 0, 0, 128, 128]])]
    for ids, wanted in zip(reference.size_ids(settings, timestep), told, strict=True):
        assert torch.equal(ids[None], wanted)
    with torch.no_grad():
        positive, negative = (
            models["unet"](
                x[None] / (sigma**2 + 1) ** 0.5,
                timestep,
                encoder_hidden_states=context[None],
                added_cond_kwargs={"text_embeds": pooled[None], "time_ids": ids},
            ).sample
            for (context, pooled), ids in zip(prompts, told, strict=True)
        )
    done = 1 - timestep / 999
    sharp = reference.sharpen(positive, x[None] - sigma * positive, 20.0, done)
    scale = 7 + done * 2
    assert reference.adaptive_scale(9.0, 7.0, done) == pytest.approx(scale)
    guided = negative + scale * (sharp - negative)
    guided *= 0.3 + 0.7 * sharp.std() / guided.std()
    wanted = (x[None] - sigma * guided)[0]
    torch.testing.assert_close(reference.evaluate(models, settings, x, sigma, *prompts), wanted, atol=1e-4, rtol=0)
    found = reference.guided(settings, x, sigma, positive[0], negative[0])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


# -- denoising


@pytest.mark.parametrize(("scale", "rescale"), [(1.0, 0.0), (5.0, 0.7)])
def test_denoising_equals_diffusers_pipeline(
    models: Models, prompts: tuple[Prompt, Prompt], scale: float, rescale: float
) -> None:
    scheduler: Any = EulerDiscreteScheduler(**SDXL, timestep_spacing="leading", steps_offset=1)
    pipeline: Any = StableDiffusionXLPipeline(**models, scheduler=scheduler, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    noise = normal(7, 1, 4, 16, 16)
    wanted = pipeline(
        "a red circle",
        negative_prompt="a green star",
        height=SIDE,
        width=SIDE,
        num_inference_steps=5,
        guidance_scale=scale,
        guidance_rescale=rescale,
        latents=noise,
        output_type="latent",
    ).images[0]
    settings = EULER | Settings(schedule="ddim_uniform", steps=5, scale=scale, rescale=rescale)
    evaluations: list[tuple[Tensor, float, Tensor]] = []
    first = noise[0] * scheduler.init_noise_sigma
    found = reference.denoise(models, settings, first, *prompts, evaluations=evaluations)
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(reference.first_latents(settings, 7), noise[0] * scheduler.sigmas[0])
    assert [sigma for _, sigma, _ in evaluations] == pytest.approx(scheduler.sigmas[:-1].tolist(), rel=1e-4)
    torch.testing.assert_close(evaluations[-1][2], found, atol=1e-5, rtol=0)


def test_unlike_rows_side_by_side_are_what_each_is_alone(
    folder: Path, models: Models, prompts: tuple[Prompt, Prompt]
) -> None:
    hint = np.zeros((SIDE, SIDE, 3), np.uint8)
    hint[32:96, 32:96] = 255
    canny = folder / "control/control-lora-canny-rank128.safetensors"
    rows = [
        Row(settings=EULER, latents=normal(1, 4, 16, 16) * 14, positive=prompts[0]),
        Row(
            settings=reference.mode("Speed") | Settings(steps=3, width=SIDE, height=SIDE),
            latents=normal(2, 4, 16, 16) * 14,
            positive=prompts[1],
            negative=prompts[0],
            noise=5,
        ),
        Row(
            settings=EULER | Settings(sampler="lcm", schedule="lcm"),
            latents=normal(3, 4, 16, 16) * 14,
            positive=prompts[0],
            controls=[{"path": canny, "hint": reference.canny(hint), "weight": 0.8, "stop_at": 0.6}],
            loras=[(folder / "loras/sdxl_lcm_lora.safetensors", 1.0)],
        ),
        Row(settings=EULER, latents=normal(4, 4, 16, 24) * 14, positive=prompts[1]),
    ]
    together = reference.denoise_together(models, rows)
    for row, found in zip(rows, together, strict=True):
        given: Any = dict(row)
        torch.testing.assert_close(reference.denoise(models, **given), found, atol=1e-3, rtol=0)
    bare: Any = {key: value for key, value in rows[2].items() if key not in ("controls", "loras")}
    assert (reference.denoise(models, **bare) - together[2]).abs().max() > 1e-2


def test_a_controlled_evaluation_adds_softened_residuals(
    folder: Path, models: Models, prompts: tuple[Prompt, Prompt]
) -> None:
    path, hint = folder / "control/fooocus_xl_cpds_128.safetensors", np.full((SIDE, SIDE, 3), 200, np.uint8)
    x, sigma, ids = normal(1, 4, 16, 16) * 4, 4.0, torch.tensor([[128.0, 128, 0, 0, 128, 128]])
    (context, pooled), timestep = prompts[0], reference.timestep(4.0)
    scaled = x[None] / (sigma**2 + 1) ** 0.5
    residuals = reference.control_residuals(
        models,
        path,
        scaled,
        torch.tensor([timestep]),
        context[None],
        pooled[None],
        ids,
        torch.full((1, 3, SIDE, SIDE), 200 / 255),
    )
    factors = [0.75 + 0.25 * at / (len(residuals) - 1) for at in range(len(residuals))]
    assert reference.softness(len(residuals)) == pytest.approx(factors)
    *down, middle = (0.5 * factor * each for factor, each in zip(factors, residuals, strict=True))
    with torch.no_grad():
        eps = models["unet"](
            scaled,
            timestep,
            encoder_hidden_states=context[None],
            added_cond_kwargs={"text_embeds": pooled[None], "time_ids": ids},
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
    acting = [{"path": path, "hint": hint, "weight": 0.5, "stop_at": 1.0}]
    found = reference.evaluate(models, EULER, x, sigma, prompts[0], controls=acting)
    torch.testing.assert_close(found, x - sigma * eps[0], atol=1e-4, rtol=0)


# -- text and pictures


def test_text_is_encoded_as_transformers_does(models: Models) -> None:
    states, pooled = [], None
    for suffix, pad in (("", models["tokenizer"].eos_token_id), ("_2", 0)):
        ids = models[f"tokenizer{suffix}"]("a red circle").input_ids
        with torch.no_grad():
            output = models[f"text_encoder{suffix}"](
                torch.tensor([ids + [pad] * (77 - len(ids))]), output_hidden_states=True
            )
        states.append(output.hidden_states[-2][0])
        pooled = getattr(output, "text_embeds", None)
    context, found = reference.encode_text(["a red circle"], models)
    torch.testing.assert_close(context, torch.cat(states, dim=-1))
    torch.testing.assert_close(found[None], pooled)
    with pytest.raises(Refused) as caught:
        reference.encode_text(["a"] * 100, models)
    assert caught.value.kind == "sequence_too_long"


def test_prompts_are_cut_as_written() -> None:
    assert reference.emphasis("a (b) (c:0.5)") == [("a ", 1.0), ("b", pytest.approx(1.1)), (" ", 1.0), ("c", 0.5)]
    assert reference.prompt_lines(" a,  b. \n\n c") == ["a, b", "c"]
    letters: Callable[[Any], Any] = lambda words: [[ord(letter) for letter in word] for word in words]  # noqa: E731
    (((row, rest),),) = reference.chunks(["(a:2) " + " ".join("b" * 76)], letters)
    assert row == [(97, 2.0), *[(98, 1.0)] * 74]
    assert rest == [(98, 1.0)] * 2


def test_pictures_are_resized_masked_and_pasted_by_rule() -> None:
    assert reference.size_of_start(2048, 2048) == (1024, 1024)
    assert reference.size_of_start(801, 603) == (800, 600)
    with pytest.raises(Refused):
        reference.size_of_start(63, 100)
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:, 32:96] = 90
    assert (reference.cover(picture, 64, 64) == 90).all()
    assert reference.stretch(picture, 64, 32).shape == (32, 64, 3)
    mask = np.zeros((64, 128), np.uint8)
    mask[:, :10] = 255
    assert reference.soft_mask(mask)[0, [0, 9, 10, 20, 50]].tolist() == [255, 255, 248, 168, 0]
    pasted = reference.paste(picture + 100, picture, mask)
    assert (pasted[0, 0, 0], pasted[0, 60, 0]) == (100, 90)
    edges, structure = reference.canny(picture), reference.cpds(picture)
    assert edges.shape == structure.shape == picture.shape
    assert edges[:, 28:36].max() == 255
    assert edges[:, 50:80].max() == 0


def test_a_drawn_picture_is_its_latent_denoised_and_decoded(folder: Path, models: Models) -> None:
    lcm = folder / "loras/sdxl_lcm_lora.safetensors"
    settings = EULER | Settings(sampler="lcm", schedule="lcm")
    prompt = reference.encode_text(["a red circle"], models)  # the LoRA leaves the encoders alone
    (drawn,) = reference.draw(
        folder, [{"settings": settings, "prompt": "a red circle", "seeds": (3,), "performance": [(lcm, 1.0)]}]
    )
    first = reference.first_latents(settings, 3)
    latent = reference.denoise(models, settings, first, prompt, noise=3, loras=[(lcm, 1.0)])
    picture = reference.decode_latent(models, latent)
    assert np.abs(drawn[0].astype(int) - picture).max() <= 1
    again = reference.decode_latent(models, reference.encode_pixels(models, picture, seed=1))
    assert np.abs(again.astype(int) - picture).mean() < 20


# -- weights


def test_a_checkpoint_fills_every_parameter_or_is_refused(folder: Path, tmp_path: Path) -> None:
    path, config = folder / "pocket_xl.safetensors", folder / "config"
    tensors, found = load_file(path), reference.load_checkpoint(path, config)
    stem = found["unet"]["conv_in.weight"]
    torch.testing.assert_close(stem, tensors["model.diffusion_model.input_blocks.0.0.weight"].float())
    fused = tensors["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"].float()
    name = next(name for name in found["text_encoder_2"] if name.endswith("layers.0.self_attn.k_proj.weight"))
    torch.testing.assert_close(found["text_encoder_2"][name], fused.chunk(3)[1])
    lost, strange = "first_stage_model.decoder.conv_in.bias", "model.diffusion_model.strange"
    for changed, told in (
        ({key: value for key, value in tensors.items() if key != lost}, lost),
        (tensors | {strange: torch.zeros(1)}, strange),
        (tensors | {lost: torch.zeros(3)}, lost),
    ):
        save_file(changed, tmp_path / "changed.safetensors")
        with pytest.raises(Refused, match=told):
            reference.load_checkpoint(tmp_path / "changed.safetensors", config)


def test_a_lora_changes_its_layer_by_the_product(models: Models, tmp_path: Path) -> None:
    layer = next(name for name, _ in models["unet"].named_modules() if name.endswith("attn1.to_q"))
    weight = models["unet"].get_parameter(f"{layer}.weight")
    down, up = normal(1, 2, weight.shape[1]), normal(2, weight.shape[0], 2)
    flat, path = f"lora_unet_{layer.replace('.', '_')}", tmp_path / "lora.safetensors"
    tensors = {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up, f"{flat}.alpha": torch.tensor(1.0)}
    save_file(tensors | {"lora_unet_nowhere.lora_down.weight": down.clone()}, path)
    found = reference.load_lora(path, models)
    assert list(found["matched"]) == [("unet", f"{layer}.weight")]
    assert len(found["unmatched"]) == 1
    torch.testing.assert_close(found["matched"]["unet", f"{layer}.weight"], up @ down / 2)
    merged = reference.effective_weight(models, [(path, 0.8)], "unet", f"{layer}.weight")
    torch.testing.assert_close(merged, weight + 0.4 * up @ down)
    save_file({"lora_unet_nowhere.lora_down.weight": down}, path)
    with pytest.raises(Refused) as caught:
        reference.load_lora(path, models)
    assert caught.value.kind == "feature_not_supported"


def test_the_other_networks_answer(folder: Path) -> None:
    assert reference.pocket() == folder
    pictures = np.zeros((1, 64, 64, 3), np.uint8)
    assert reference.safety_scores(folder / "safety_checker", pictures).shape[0] == 1
    (upscaler,) = (folder / "upscale").glob("*.safetensors")
    assert reference.upscale(upscaler, torch.zeros(1, 3, 8, 8)).shape == (1, 3, 32, 32)
    assert reference.size_to_vary(500, 500) == (1024, 1024)
    assert reference.size_to_enlarge(1152, 896, 2) == (2304, 1792, True)
