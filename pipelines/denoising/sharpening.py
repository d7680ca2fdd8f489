"""Fooocus' sharpness: a share of the predicted noise is smoothed where the picture is smooth (fooocus-facts 4.2)."""

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
    near_guide, near_signal = _windows(guide), _windows(signal)
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=signal.device, dtype=signal.dtype)
    line = torch.exp(-0.5 * (offsets / SPREAD) ** 2)
    line = line / line.sum()
    total, weights = torch.zeros_like(signal), torch.zeros_like(signal[:, :1])
    for row in range(2 * RADIUS + 1):  # one row of the window at a time: all at once would hold 169 copies
        distance = (near_guide[:, :, :, :, row] - guide[..., None]).abs().sum(dim=1, keepdim=True)
        weight = torch.exp(-0.5 * (distance / SPREAD) ** 2) * (line[row] * line)
        total += (near_signal[:, :, :, :, row] * weight).sum(dim=-1)
        weights += weight.sum(dim=-1)
    return total / weights


def _windows(values: Tensor) -> Tensor:
    """A view (n, c, h, w, 13, 13) of every pixel's window."""
    padded = pad(values, (RADIUS,) * 4, mode="reflect")
    return padded.unfold(2, 2 * RADIUS + 1, 1).unfold(3, 2 * RADIUS + 1, 1)
