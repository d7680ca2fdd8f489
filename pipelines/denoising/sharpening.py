"""Fooocus' sharpness: a share of the predicted noise is smoothed where the picture is smooth (fooocus-facts 4.2)."""

from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

RADIUS = 6
SPREAD = 3.0  # deviation of both Gaussians: over pixels, and over the guide's distance
SHARE = 0.001  # of the filtered prediction, for each unit of sharpness and of progress


def sharpen(eps: Tensor, guide: Tensor, sharpness: Tensor, progress: Tensor) -> Tensor:
    """Mix a little of the filtered `eps` into it.

    eps: (n, c, h, w) predicted noise (any multiple of it). guide: the clean latent that it implies. sharpness, of 0 to
    30, and progress, 1 - t/999: (n,) each.
    """
    share = (SHARE * sharpness * progress)[:, None, None, None]
    return share * joint_bilateral(eps, guide) + (1 - share) * eps


def joint_bilateral(signal: Tensor, guide: Tensor) -> Tensor:
    """Smooth `signal` where `guide` is smooth; both (n, c, h, w), h and w above 6.

    The window is 13 x 13 with reflected edges. A neighbour weighs by its distance in the plane and by that of the
    guide's values, normalised per sample, summed over the channels.
    """
    deviation, mean = torch.std_mean(guide, dim=(1, 2, 3), keepdim=True)
    guide = (guide - mean) / (deviation + 1e-5)
    height, width = signal.shape[2:]
    wide_guide, wide_signal = (pad(each, (RADIUS,) * 4, mode="reflect") for each in (guide, signal))
    line = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1) / SPREAD) ** 2)
    taps: list[float] = (line / line.sum()).tolist()
    total, weights = torch.zeros_like(signal), torch.zeros_like(signal[:, :1])
    for (y, down), (x, across) in product(enumerate(taps), repeat=2):  # all neighbours at once would be 169 copies
        near = slice(y, y + height), slice(x, x + width)
        distance = (wide_guide[:, :, *near] - guide).abs_().sum(dim=1, keepdim=True)
        weight = distance.square_().mul_(-0.5 / SPREAD**2).exp_().mul_(down * across)
        total.addcmul_(wide_signal[:, :, *near], weight)
        weights += weight
    return total / weights
