"""Fooocus' sharpness: a share of the predicted noise is smoothed where the picture is smooth (fooocus-facts 4.2)."""

import torch
from torch import Tensor
from torch.nn.functional import pad

RADIUS = 6
SPREAD = 3.0  # deviation of both Gaussians: over pixels, and over the guide's distance
SIDE = 2 * RADIUS + 1
LINE = tuple(-0.5 * (offset / SPREAD) ** 2 for offset in range(-RADIUS, RADIUS + 1))  # logarithms of a Gaussian
CACHED_PIXELS = 4096  # of latents that are filtered together on a CPU
SHARE = 0.001  # of the filtered prediction, for each unit of sharpness and of progress


def filtered_share(sharpness: float, progress: float) -> float:
    """The share of the prediction that is filtered. sharpness: 0 to 30. progress: 1 - t/999."""
    return SHARE * sharpness * progress


def sharpen(eps: Tensor, guide: Tensor, share: Tensor) -> Tensor:
    """Mix a little of the filtered `eps` into it.

    eps: (n, c, h, w) predicted noise (any multiple of it). guide: the clean latent that it implies. share: (n,).
    """
    return torch.lerp(eps, joint_bilateral(eps, guide), share[:, None, None, None])


def joint_bilateral(signal: Tensor, guide: Tensor) -> Tensor:
    """Smooth `signal` where `guide` is smooth; both (n, c, h, w), h and w above 6.

    The window is 13 x 13 with reflected edges. A neighbour weighs by its distance in the plane and by that of the
    guide's values, normalised per sample, summed over the channels.
    """
    guide = _normalised(guide)
    if signal.device.type != "cpu":
        return _at_once(signal, guide)
    rows = max(1, CACHED_PIXELS // signal[0, 0].numel())
    return torch.cat([*map(_line_by_line, torch.split(signal, rows), torch.split(guide, rows))])


def _normalised(guide: Tensor) -> Tensor:
    """Per sample, and so that a neighbour at L1 distance d weighs exp(-d^2)."""
    deviation, mean = torch.std_mean(guide, dim=(1, 2, 3), keepdim=True)
    return (guide - mean) / ((deviation + 1e-5) * (SPREAD * 2**0.5))


def _at_once(signal: Tensor, guide: Tensor) -> Tensor:
    """All neighbours in one tensor: few operations, and 169 copies of the latents in memory."""
    channels = signal.shape[1]
    both = pad(torch.cat([guide, signal], dim=1), (RADIUS,) * 4, mode="reflect")
    near = both.unfold(2, SIDE, 1).unfold(3, SIDE, 1)  # (n, 2 c, h, w, 13, 13), a view
    distance = torch.linalg.vector_norm(near[:, :channels] - guide[..., None, None], 1, dim=1)
    line = torch.arange(-RADIUS, RADIUS + 1, device=signal.device).div(SPREAD).square().mul(-0.5)
    weight = torch.addcmul(line[:, None] + line, distance, distance, value=-1).exp_()
    total = torch.einsum("nchwyx,nhwyx->nchw", near[:, channels:], weight)
    return total / weight.sum(dim=(3, 4))[:, None]


def _line_by_line(signal: Tensor, guide: Tensor) -> Tensor:
    """The neighbours of one line after the other, which stay in the caches of a CPU."""
    rows, _, height, width = signal.shape
    both = pad(torch.cat([guide, signal]), (RADIUS,) * 4, mode="reflect")
    near = torch.stack([both[..., x : x + width] for x in range(SIDE)])  # (13, 2 n, c, h + 12, w)
    line = torch.tensor(LINE)[:, None, None, None]
    total, weights = torch.zeros_like(signal), torch.zeros_like(signal[:, :1])
    for y, down in enumerate(LINE):
        beside = near[:, :, :, y : y + height]
        distance = (beside[:, :rows] - guide).abs_().sum(dim=2)
        weight = torch.addcmul(line + down, distance, distance, value=-1).exp_()
        total += (beside[:, rows:] * weight[:, :, None]).sum(dim=0)
        weights += weight.sum(dim=0)[:, None]
    return total / weights
