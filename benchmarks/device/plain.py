"""A plain diffusers loop over SDXL of random weights: what the engine is compared with on a device."""

from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from benchmarks.sdxl import FACTOR, LATENT_CHANNELS, Models

GUIDANCE = 4.0


class PlainLoop:
    """What `StableDiffusionXLPipeline` does after its prompts are encoded: one scheduler, one batch, one decode."""

    def __init__(self, models: Models, side: int, pictures: int, *, guided: bool) -> None:
        self._models = models
        self._guided = guided
        self._shape = (pictures, LATENT_CHANNELS, side // FACTOR, side // FACTOR)
        rows = pictures * (2 if guided else 1)
        conditionings = [models.conditioning(seed) for seed in range(rows)]
        self._context = torch.stack([each.context for each in conditionings]).to(models.dtype)
        self._added = {
            "text_embeds": torch.stack([each.pooled for each in conditionings]).to(models.dtype),
            "time_ids": models.size_ids(side).to(models.dtype).repeat(rows, 1),
        }
        self._ready = torch.randn(rows, *self._shape[1:], device=models.device, dtype=models.dtype)
        self._at = torch.full((rows,), 500, device=models.device)

    @torch.inference_mode()
    def call(self) -> Tensor:
        """The UNet's answer to arguments that lie ready."""
        return self._predict(self._ready, self._at)

    @torch.inference_mode()
    def draw(self, steps: int) -> np.ndarray[Any, Any]:
        """Draw the batch. Returns (pictures, height, width, 3) uint8."""
        models = self._models
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        )
        scheduler.set_timesteps(steps, device=models.device)
        latents = torch.randn(self._shape, device=models.device, dtype=models.dtype) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            x = torch.cat([latents] * 2) if self._guided else latents
            x = scheduler.scale_model_input(x, timestep)
            predicted = self._predict(x, timestep.expand(len(x)))
            if self._guided:
                negative, positive = predicted.chunk(2)
                predicted = negative + GUIDANCE * (positive - negative)
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
        decoded = models.vae.decode(latents / models.vae.config["scaling_factor"], return_dict=False)[0]
        pixels = ((decoded / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).float().cpu().numpy()
        drawn: np.ndarray[Any, Any] = pixels.astype(np.uint8)
        return drawn

    def _predict(self, x: Tensor, timesteps: Tensor) -> Tensor:
        predicted: Tensor = self._models.plain(
            x, timesteps, encoder_hidden_states=self._context, added_cond_kwargs=self._added, return_dict=False
        )[0]
        return predicted
