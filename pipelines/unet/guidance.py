"""Guidance: from what the network predicts to the clean latent that the sampler is sent.

Batched: latents are (n, c, h, w), and what differs by row is (n,).
"""

import math

from torch import Tensor

from pipelines.parts import Prediction

LCM_SIGMA_DATA = 0.5
LCM_TIME_SCALE = 10.0
LAST_TIMESTEP = 999


def clean_latent(x: Tensor, predicted: Tensor, sigma: Tensor | float, prediction: Prediction = "epsilon") -> Tensor:
    """D: the clean latent that a prediction implies.

    A noise implies x - sigma * eps. A velocity is (eps - sigma * D) / sqrt(1 + sigma^2) (Salimans and Ho 2022); its D
    is not taken from the noise that it implies, for at the top level of zero terminal SNR little is left of that.
    """
    sigma = _by_row(sigma)
    if prediction == "epsilon":
        return x - sigma * predicted
    variance = sigma**2 + 1
    return x / variance - predicted * (sigma / variance**0.5)


def implied_noise(x: Tensor, predicted: Tensor, sigma: Tensor | float, prediction: Prediction = "epsilon") -> Tensor:
    """eps = (x - D) / sigma: the noise that a prediction implies."""
    if prediction == "epsilon":
        return predicted
    sigma = _by_row(sigma)
    variance = sigma**2 + 1
    return x * (sigma / variance) + predicted / variance**0.5


def prediction_of(x: Tensor, eps: Tensor, sigma: Tensor | float, prediction: Prediction = "epsilon") -> Tensor:
    """The prediction that implies a noise: `implied_noise` backwards."""
    if prediction == "epsilon":
        return eps
    sigma = _by_row(sigma)
    deviation = (sigma**2 + 1) ** 0.5
    return eps * deviation - x * (sigma / deviation)


def progress(timestep: float) -> float:
    """How far the denoising has come at a timestep: 0 at the start, 1 at the end."""
    return 1 - timestep / LAST_TIMESTEP


def classifier_free(positive: Tensor, negative: Tensor, scale: Tensor | float) -> Tensor:
    """Classifier-free guidance: negative + scale * (positive - negative) (Ho and Salimans 2022).

    The same of noises, of velocities and of clean latents, for each is an affine function of the others.
    """
    return negative + _by_row(scale) * (positive - negative)


def adaptive_scale(scale: float, mimicked: float, progress: float) -> float:
    """The guidance scale of one evaluation: above `mimicked`, early steps keep to that and late ones reach `scale`.

    Fooocus' adaptive CFG (fooocus-facts 4.2): the mean of the two guided predictions, weighted by progress, is the
    prediction guided with the mean of the scales.
    """
    return scale if scale <= mimicked else mimicked + progress * (scale - mimicked)


def rescaled(guided: Tensor, positive: Tensor, share: Tensor) -> Tensor:
    """Pull the guided prediction's deviation back to the positive one's by `share` of 0 to 1 (Lin et al. 2023, 3.4).

    Of what the network predicts, be it noise or velocity, as the paper and diffusers have it.
    """
    over = tuple(range(1, guided.ndim))
    ratio = positive.std(dim=over, keepdim=True) / guided.std(dim=over, keepdim=True)
    return guided * (1 + _by_row(share) * (ratio - 1))


def consistency(clean: Tensor, x: Tensor, timestep: int) -> Tensor:
    """LCM's boundary condition c_out * D + c_skip * x at a training timestep (fooocus-facts 4.5)."""
    scaled = LCM_TIME_SCALE * timestep
    spread = scaled**2 + LCM_SIGMA_DATA**2
    return clean * (scaled / math.sqrt(spread)) + x * (LCM_SIGMA_DATA**2 / spread)


def _by_row(value: Tensor | float) -> Tensor | float:
    """Shape a value per row so that it multiplies latents."""
    return value[:, None, None, None] if isinstance(value, Tensor) and value.ndim else value
