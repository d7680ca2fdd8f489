"""Diffusers' SDXL pipeline on the weights of a family, and our own evaluations without an engine."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor

from pipelines.conditioning import encode_prompt
from pipelines.engine.tasks import Advance, Routine
from pipelines.parts import Prediction
from pipelines.unet.guide import Evaluate, Guidance, Guide, SizeIds
from pipelines.weights.family import Family
from tests.pipelines.unet.calling import run

SIDE = 128
PROMPT, NEGATIVE = "a red circle on a blue background", "a green star"


def first_noise() -> Tensor:
    """(4, h, w), with the deviation of 1 that the pipeline takes."""
    return torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(7))[0]


def pipelines_latent(family: Family, scheduler: Any, steps: int, scale: float, rescale: float) -> Tensor:
    """What the pipeline makes of `first_noise` and the prompts: (4, h, w)."""
    pipeline: Any = StableDiffusionXLPipeline(
        vae=family.vae,
        text_encoder=family.text_encoders[0],
        text_encoder_2=family.text_encoders[1],
        tokenizer=family.tokenizers[0],
        tokenizer_2=family.tokenizers[1],
        unet=family.unet,
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        height=SIDE,
        width=SIDE,
        num_inference_steps=steps,
        guidance_scale=scale,
        guidance_rescale=rescale,
        latents=first_noise()[None],
        output_type="latent",
    )
    latent: Tensor = drawn.images[0]
    return latent


def plain_guide(family: Family, scale: float, rescale: float, prediction: Prediction = "epsilon") -> Guide:
    """Leads by the same prompts as the pipeline does: plain guidance, true sizes."""
    positive, negative = (encode_prompt([text], family.tokenizers, family.text_encoders) for text in (PROMPT, NEGATIVE))
    ids = torch.tensor([SIDE, SIDE, 0, 0, SIDE, SIDE], dtype=torch.float32)
    return Guide(
        family.unet,
        positive,
        None if scale == 1 else negative,
        Guidance(scale, rescale=rescale),
        SizeIds(ids, ids, ids),
        prediction=prediction,
    )


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
