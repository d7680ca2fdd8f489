"""Text-to-image equals diffusers' own SDXL pipeline, given its levels, its first noise and its plain size ids."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from pipelines.conditioning import encode_prompt
from pipelines.denoising.denoisers import evaluate, sample, watched
from pipelines.denoising.samplers import euler
from pipelines.denoising.schedules import sdxl_table
from pipelines.denoising.sigma_schedule import SigmaSchedule
from pipelines.engine.tasks import Advance, Routine
from pipelines.unet.guide import Evaluate, Guidance, Guide, SizeIds
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import run

SIDE, STEPS = 128, 6
PROMPT, NEGATIVE = "a red circle on a blue background", "a green star"


def drive(family: Family, routines: Sequence[Routine[Tensor]]) -> list[Tensor]:
    """Run routines in one batch, call by call, without an engine."""
    answers: list[Any] = [None] * len(routines)
    results: list[Any] = [None] * len(routines)
    while any(result is None for result in results):
        asks: dict[int, Evaluate] = {}
        for at, routine in enumerate(routines):
            try:
                asked: Any = routine.send(answers[at])
                while isinstance(asked, Advance):
                    asked = routine.send(None)
                asks[at] = asked
            except StopIteration as end:
                results[at] = end.value
        for at, answer in zip(asks, run(family, list(asks.values())) if asks else [], strict=True):
            answers[at] = answer
    return results


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_euler_equals_the_pipeline(pocket_family: Family, scale: float, rescale: float) -> None:
    scheduler: Any = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    pipeline: Any = StableDiffusionXLPipeline(
        vae=pocket_family.vae,
        text_encoder=pocket_family.text_encoders[0],
        text_encoder_2=pocket_family.text_encoders[1],
        tokenizer=pocket_family.tokenizers[0],
        tokenizer_2=pocket_family.tokenizers[1],
        unet=pocket_family.unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(7))
    wanted = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        guidance_rescale=rescale,
        latents=noise,
        output_type="latent",
    ).images[0]

    positive, negative = (
        encode_prompt([text], pocket_family.tokenizers, pocket_family.text_encoders) for text in (PROMPT, NEGATIVE)
    )
    ids = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE], dtype=torch.float32)
    led = Guidance(scale, rescale=rescale)
    guide = Guide(pocket_family.unet, positive, None if scale == 1 else negative, led, SizeIds(ids, ids, ids))
    schedule = SigmaSchedule(sdxl_table(), scheduler.sigmas)
    x = noise[0] * scheduler.init_noise_sigma
    denoiser = watched(evaluate(guide, schedule.table), schedule)
    (found,) = drive(pocket_family, [sample(euler(x, schedule.sigmas), denoiser)])
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)
    assert found.abs().max() > 0.1
