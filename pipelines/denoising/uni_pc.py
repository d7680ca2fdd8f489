"""UniPC (Zhao et al. 2023) as a sampler: diffusers' solver, asked level by level."""

from itertools import pairwise
from typing import Any

import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from pipelines.denoising.samplers import Sampler


def uni_pc(x: Tensor, sigmas: Tensor, solver_type: str = "bh1", order: int = 3) -> Sampler:
    """The predictor-corrector, one evaluation a step. solver_type: `bh1`, or `bh2` for few steps."""
    solver: Any = UniPCMultistepScheduler(
        solver_type=solver_type,
        solver_order=order,
        prediction_type="sample",  # it is sent clean latents
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    steps = len(sigmas) - 1
    solver.alphas_cumprod = solver.alphas_cumprod.numpy()  # as a tensor, numpy 2 warns of what follows
    solver.set_timesteps(steps)
    # the levels are ours; by timestep it only looks its place up
    solver.sigmas, solver.timesteps = sigmas.to("cpu", torch.float32), torch.arange(steps, 0, -1)
    for timestep, (sigma, after) in zip(solver.timesteps, pairwise(sigmas.tolist()), strict=True):
        clean = yield x, sigma
        if after == 0:
            return clean  # what its last step comes to, where it would divide by zero
        kept = (sigma**2 + 1) ** 0.5  # its latents keep their variance, ours let it grow
        moved = solver.step(clean[None], timestep, x[None] / kept, return_dict=False)[0][0]
        x = moved * (after**2 + 1) ** 0.5
    return x
