"""The face that judges see: every promise of the pictures in plain tensors and arrays. Its signatures do not change.

A judge is whoever holds vectors of others' making (of Fooocus itself, of diffusers, of a formula) against this code.
The vectors reach the code through these functions alone, so what stands below them may be rewritten, and then
`tests/reaching*.py` follow and this file does not. It stays one file, though it is longer than others may be: judges
import this one name, and most of it is signatures and what they mean. Common to all:

- A latent is (channels, h, w) float32, scaled by the VAE's factor, h and w an eighth of the picture's pixels. Where n
  comes first it says so. x is a latent with noise of deviation sigma added to it, not divided by sqrt(1 + sigma^2).
- A picture is (height, width, 3) uint8, RGB.
- sigma goes from 14.6146 (t = 999) to 0.0292 (t = 0); progress is 1 - t/999. The UNet is told `timestep(sigma)` and is
  given x / sqrt(1 + sigma^2).
- What is refused raises `Refused`, whose message says why.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tests import reaching, reaching_asked, reaching_inputs, reaching_weights
from tests.reaching_asked import (
    Refused as Refused,  # an exception; `kind`: fal's machine value, if the client is at fault
)

Pixels = npt.NDArray[np.uint8]
Denoise = Callable[[Tensor, float], Tensor]
"""(x, sigma) -> the clean latent, in x's shape."""
Noise = int | Callable[[float, float], Tensor]
"""Where a run's noise comes from. A seed: from the product's own source (a Brownian path of that seed for dpmpp_2m_sde,
dpmpp_3m_sde and dpmpp_sde; for the others normals of torch's CPU generator, those that follow the run's first noise). A
function: noise(sigma, after), asked once for each noise that the sampler adds, in order, for the way from sigma down to
after; it answers standard normal noise in x's shape."""
Prompt = tuple[Tensor, Tensor]
"""A prompt as the UNet sees it: context (tokens, width) float32 of any number of tokens, pooled (width,) float32."""
LoraScale = tuple[Path, float]
"""A LoRA's safetensors file and its scale."""


class Settings(TypedDict, total=False):
    """How a picture is denoised. sampler, schedule and steps are needed, the others have the defaults named here.

    sampler: euler, euler_ancestral, heun, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_sde, lcm, tcd, uni_pc or
    uni_pc_bh2.
    schedule: karras, exponential, normal, simple, sgm_uniform, ddim_uniform, turbo, align_your_steps, lcm, tail.
    denoise: share of the schedule that is run, above 0 to 1 (1). For `tail` it is the image-to-image strength.
    scale: of classifier-free guidance (1.0); within 1e-4 of 1 there is no negative pass. mimicked: early steps are led
    as if the scale were at most this (None: no such cap). sharpness: 0 to 30 (0.0). rescale: 0 to 1 (0.0).
    sizes: what the positive and the negative prompt are told of the picture's size, as multiples of it, while progress
    is below the third (1.0, 1.0, 0.0). width, height: in pixels, multiples of 8 (8 x the latent's).
    """

    sampler: str
    schedule: str
    steps: int
    denoise: float
    scale: float
    mimicked: float | None
    sharpness: float
    rescale: float
    sizes: tuple[float, float, float]
    width: int
    height: int


class Hint(TypedDict, total=False):
    """A control picture, ready. path: of the control-LoRA. hint: (height, width, 3) uint8, already annotated, of the
    picture's size. weight: 0 is off (1.0). stop_at: acts while progress is below it (1.0: always)."""

    path: Path
    hint: Pixels
    weight: float
    stop_at: float


class Row(TypedDict, total=False):
    """One latent of `denoise_together`, with the arguments that `denoise` has. The first three are needed."""

    settings: Settings
    latents: Tensor
    positive: Prompt
    negative: Prompt | None
    noise: Noise
    controls: Sequence[Hint]
    loras: Sequence[LoraScale]


class Picture(TypedDict, total=False):
    """One job of `draw`. settings (with width and height), prompt and seeds are needed.

    start: of any size, where settings has `denoise`. controls: (canny or cpds, the picture as given, weight, stop_at).
    performance: the LoRAs of the performance mode. loras: the request's own.
    """

    settings: Settings
    prompt: str
    negative: str
    seeds: tuple[int, ...]
    start: Pixels
    controls: Sequence[tuple[str, Pixels, float, float]]
    performance: Sequence[LoraScale]
    loras: Sequence[LoraScale]


Models = Mapping[str, Any]
"""Networks and tokenizers by name, in evaluation mode, of one device and dtype: `unet` (diffusers'
UNet2DConditionModel), `vae` (AutoencoderKL), `text_encoder` (CLIPTextModel), `text_encoder_2`
(CLIPTextModelWithProjection), `tokenizer`, `tokenizer_2` (CLIPTokenizer). From `load_models`, or your own; a function
needs only those that it is about, and LoRAs need unet and both encoders. They are never changed."""

# -- what is asked for


def asked(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What an endpoint (`fal-ai/fooocus`, ...) makes of a request's JSON body.

    The dict has settings (`Settings`; width and height only where they do not come from a start picture), prompt and
    negative (before styles and expansion), seeds, loras [(source, scale, is it of the performance mode)], controls
    [(kind, weight, stop_at)]. Raises `Refused` for a body that the endpoint does not take.
    """
    return reaching_asked.asked(endpoint, body)


def mode(performance: str, scale: float = 4.0, sharpness: float = 2.0) -> Settings:
    """The settings of a Fooocus performance: `Speed`, `Quality`, `Extreme Speed` or `Lightning`, at 1024 x 1024.

    scale and sharpness: as the client asks for them; the last two modes force their own.
    """
    settings: Settings = reaching_asked.mode(performance, scale, sharpness)
    return settings


# -- levels


def sigmas(schedule: str, steps: int, denoise: float = 1.0, sampler: str | None = None) -> Tensor:
    """(steps + 1,) float32, descending, the last 0 (ddim_uniform gives one more where steps do not divide 1000).

    schedule, denoise: as `Settings` has them; below 1, the last `steps` levels of int(steps / denoise) steps, but for
    `tail`, which spends all steps from t = round(999 x denoise) down. sampler: matters for uni_pc and uni_pc_bh2 alone,
    which get the levels of one step more without the lowest positive one.
    """
    return reaching.sigmas(schedule, steps, denoise, sampler)


def timestep(sigma: float, schedule: str = "karras") -> int:
    """The training timestep, 0 to 999, that the UNet is told at sigma: the nearest in log-sigma, of two that tie the
    lower. For the schedule `lcm` the nearest of the fifty that LCM knows: 19, 39, ..., 999."""
    return reaching.timestep(sigma, schedule)


def sigma_at(timestep: float) -> float:
    """Sigma at a training timestep of 0 to 999, which may lie between two: log-linear there."""
    return reaching.sigma_at(timestep)


def first_latents(settings: Settings, seed: int, start: Tensor | None = None) -> Tensor:
    """(4, height / 8, width / 8): the x that a run begins with. settings: with width and height.

    Noise of torch's CPU generator of `seed`, times sqrt(1 + sigma^2) where the run begins at the top level and times
    sigma elsewhere, plus the latent `start`.
    """
    return reaching.first_latents(settings, seed, start)


# -- samplers and their noise


def sample(name: str, x: Tensor, sigmas: Tensor, denoiser: Denoise, noise: Noise = 0) -> Tensor:
    """Run a sampler of `Settings` over a denoiser of yours. The answer is the latent at the last sigma.

    x: of any shape, at sigmas[0]. sigmas: (steps + 1,), descending, the last 0. The denoiser's answer is taken as it
    is: LCM's boundary condition (`consistency`) is no part of the sampler `lcm`.
    """
    return reaching.sample(name, x, sigmas, denoiser, noise)


def brownian(
    seed: int, shape: tuple[int, ...], low: float, high: float, ways: Sequence[tuple[float, float]]
) -> list[Tensor]:
    """What a seed's Brownian path over sigma in [low, high] says for each way (sigma, after), read in this order.

    Each is standard normal noise of `shape`: the path's increment over sqrt(|sigma - after|). Ways go downwards: above
    the higher end of a way nothing is read again.
    """
    return reaching.brownian(seed, shape, low, high, ways)


def consistency(clean: Tensor, x: Tensor, timestep: int) -> Tensor:
    """LCM's boundary condition c_out x clean + c_skip x x at a training timestep; any shape."""
    return reaching.consistency(clean, x, timestep)


# -- guidance


def classifier_free(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance of predicted noises (or of clean latents), (n, c, h, w)."""
    return reaching.classifier_free(positive, negative, scale)


def adaptive_scale(scale: float, mimicked: float, progress: float) -> float:
    """The scale that Fooocus' adaptive guidance comes to at a progress of 0 to 1."""
    return reaching.adaptive_scale(scale, mimicked, progress)


def rescaled(guided: Tensor, positive: Tensor, share: float) -> Tensor:
    """The guided noise (n, c, h, w), its deviation pulled to that of the positive one by a share of 0 to 1."""
    return reaching.rescaled(guided, positive, share)


def sharpen(eps: Tensor, guide: Tensor, sharpness: float, progress: float) -> Tensor:
    """Fooocus' sharpness: a share of 0.001 x sharpness x progress of `eps` is its joint bilateral.

    eps: (n, c, h, w) predicted noise, h and w above 6. guide: the clean latent that it implies, same shape. sharpness:
    0 to 30. progress: 0 to 1.
    """
    return reaching.sharpen(eps, guide, sharpness, progress)


def joint_bilateral(signal: Tensor, guide: Tensor) -> Tensor:
    """`signal` smoothed where `guide` is smooth, 13 x 13 with reflected edges; both (n, c, h, w), h and w above 6."""
    return reaching.joint_bilateral(signal, guide)


def guided(settings: Settings, x: Tensor, sigma: float, positive: Tensor, negative: Tensor) -> Tensor:
    """The clean latent of x (4, h, w) at sigma from the noises (4, h, w) that a UNet predicted for both prompts: all of
    the guidance that settings ask for (sharpness, adaptive scale, rescale), put together."""
    return reaching.guided(settings, x, sigma, positive, negative)


def size_ids(settings: Settings, timestep: int) -> tuple[Tensor, Tensor]:
    """(6,) float32 for the positive and for the negative prompt at a training timestep: height, width, 0, 0, target
    height, target width. settings: with width and height."""
    return reaching.size_ids(settings, timestep)


# -- denoising


def evaluate(
    models: Models,
    settings: Settings,
    x: Tensor,
    sigma: float,
    positive: Prompt,
    negative: Prompt | None = None,
    controls: Sequence[Hint] = (),
) -> Tensor:
    """One evaluation: the guided clean latent of x (4, h, w) at sigma, with sharpness, adaptive scale, rescale and size
    emphasis as settings say, without LCM's boundary condition. negative: needed where there is guidance."""
    row = Row(settings=settings, latents=x, positive=positive, negative=negative, controls=controls)
    return reaching.evaluate(models, row, sigma)


def denoise(
    models: Models,
    settings: Settings,
    latents: Tensor,
    positive: Prompt,
    negative: Prompt | None = None,
    *,
    noise: Noise = 0,
    controls: Sequence[Hint] = (),
    loras: Sequence[LoraScale] = (),
    evaluations: list[tuple[Tensor, float, Tensor]] | None = None,
) -> Tensor:
    """The whole denoising of one latent: from x at the first sigma (`first_latents`) to the clean latent.

    models: `unet`. negative: needed where there is guidance. loras: of this latent; the UNet's part of them acts.
    evaluations: gets (x, sigma, clean latent that the sampler was sent, LCM's boundary condition included) of each.
    """
    row = Row(settings=settings, latents=latents, positive=positive, negative=negative)
    row |= Row(noise=noise, controls=controls, loras=loras)
    return reaching.denoise(models, [row], [[] if evaluations is None else evaluations])[0]


def denoise_together(models: Models, rows: Sequence[Row]) -> list[Tensor]:
    """Denoise latents that may differ in all that `Row` has side by side: what can share a UNet call does, step by
    step. The answers are in the order of the rows, and equal those of `denoise` of each."""
    return reaching.denoise(models, rows, [[] for _ in rows])


def control_residuals(
    models: Models,
    path: Path,
    x: Tensor,
    timesteps: Tensor,
    context: Tensor,
    pooled: Tensor,
    size_ids: Tensor,
    hint: Tensor,
) -> list[Tensor]:
    """What the control network that the control-LoRA at `path` makes of models' unet adds to the UNet: residuals of the
    skip connections, then of the middle, before weight and softness.

    x: (n, 4, h, w), already divided by sqrt(1 + sigma^2). timesteps: (n,). context: (n, tokens, width). pooled:
    (n, width). size_ids: (n, 6). hint: (n, 3, 8h, 8w) float32 of 0 to 1.
    """
    return reaching.control_residuals(models, path, x, timesteps, context, pooled, size_ids, hint)


def softness(count: int) -> list[float]:
    """The factor of each of `count` control residuals, the middle one last."""
    return reaching.softness(count)


# -- text


def prompt_lines(text: str) -> list[str]:
    """The lines of a prompt, cleaned, without empty ones; at least one."""
    return reaching_inputs.prompt_lines(text)


def emphasis(text: str) -> list[tuple[str, float]]:
    """(text, weight) pieces of a prompt with `(text)` and `(text:1.3)`, in order."""
    return reaching_inputs.emphasis(text)


def chunks(
    lines: Sequence[str], *tokenizers: Callable[[Sequence[str]], Sequence[Sequence[int]]]
) -> list[list[list[list[tuple[int, float]]]]]:
    """The tokens of a prompt in rows of at most 75, by line, tokenizer, row: (id, weight), without start and end tokens
    and padding. tokenizers: each gives the ids of each of some words."""
    return reaching_inputs.chunks(lines, tokenizers)


def encode_text(lines: Sequence[str], models: Models) -> Prompt:
    """A prompt's lines by both text encoders: contexts of the lines joined along the tokens, 77 to a row; pooled
    vectors summed. models: both text encoders and both tokenizers. Raises `Refused` for too many rows or too large a
    weight."""
    return reaching_inputs.encode_text(lines, models)


# -- pictures


def canny(pixels: Pixels) -> Pixels:
    """PyraCanny's edges of a picture, in its shape, three equal channels."""
    return reaching_inputs.canny(pixels)


def cpds(pixels: Pixels) -> Pixels:
    """CPDS' structure of a picture, in its shape, three equal channels."""
    return reaching_inputs.cpds(pixels)


def cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture scaled until it covers width x height, and its centre cut out. Sides: multiples of 8."""
    return reaching_inputs.cover(pixels, width, height)


def stretch(pixels: Pixels, width: int, height: int) -> Pixels:
    """A picture stretched to width x height. Sides: multiples of 8."""
    return reaching_inputs.stretch(pixels, width, height)


def size_of_start(width: int, height: int) -> tuple[int, int]:
    """(width, height) to draw for a start picture of that size where the request names none. Raises `Refused` for one
    that is too small."""
    return reaching_inputs.size_of_start(width, height)


def size_to_vary(width: int, height: int) -> tuple[int, int]:
    """(width, height) to which a picture of that size is resized to be varied. Raises `Refused` as `size_of_start`."""
    return reaching_inputs.size_to_vary(width, height)


def size_to_enlarge(width: int, height: int, factor: float) -> tuple[int, int, bool]:
    """(width, height) of a picture of that size, enlarged, and whether it is drawn over. Raises `Refused` for one that
    is too small, or would be too large."""
    return reaching_inputs.size_to_enlarge(width, height, factor)


def soft_mask(mask: Pixels) -> Pixels:
    """(height, width) uint8: 255 in the hole (mask above 127), less the further from it, 0 from 32 pixels on."""
    return reaching_inputs.soft_mask(mask)


def paste(drawn: Pixels, original: Pixels, mask: Pixels) -> Pixels:
    """`drawn` in the mask's hole, `original` far from it, mixed by `soft_mask` between. mask: (height, width) uint8."""
    return reaching_inputs.paste(drawn, original, mask)


def encode_pixels(models: Models, pixels: Pixels, seed: int) -> Tensor:
    """The scaled latent of a picture, a sample of the VAE's posterior with the noise of `seed`. models: `vae`."""
    return reaching_inputs.encode_pixels(models, pixels, seed)


def decode_latent(models: Models, latent: Tensor) -> Pixels:
    """The picture of a scaled latent. models: `vae`."""
    return reaching_inputs.decode_latent(models, latent)


def upscale(path: Path, pictures: Tensor) -> Tensor:
    """(n, 3, 4 x height, 4 x width) float32 of pictures (n, 3, height, width) of 0 to 1, by the upscaler at `path`."""
    return reaching_inputs.upscale(path, pictures)


def safety_scores(folder: Path, pictures: Pixels) -> Tensor:
    """(n, concepts) float32 by the checker in `folder`, of pictures (n, height, width, 3); above 0 is not shown."""
    return reaching_inputs.safety_scores(folder, pictures)


# -- weights


def pocket() -> Path:
    """The folder of the pocket family, written when it is not there; its `family.json` says what it holds."""
    return reaching_weights.pocket()


def load_models(folder: Path) -> Models:
    """A family's networks and tokenizers, float32 on the CPU. Raises `Refused` for one that is not whole."""
    return reaching_weights.load_models(folder)


def load_checkpoint(path: Path, config: Path) -> dict[str, dict[str, Tensor]]:
    """The parameters of a single-file SDXL checkpoint by component (unet, vae, text_encoder, text_encoder_2) and by
    their name in diffusers or transformers, float32.

    config: a folder with a `config.json` for each component. Raises `Refused`, naming a tensor, where one is missing,
    has another shape or is left over, and where the file is no safetensors file.
    """
    return reaching_weights.load_checkpoint(path, config)


def load_lora(path: Path, models: Models) -> dict[str, Any]:
    """What of a LoRA file fits. models: unet and both text encoders.

    The dict has matched {(component, name of the parameter in diffusers or transformers): alpha/rank x up @ down,
    float32, in the parameter's shape} and unmatched (names of what fits nowhere). Raises `Refused` for what is no
    safetensors file, no plain low-rank product, or fits with more than 12 tensors, or all, nowhere.
    """
    return reaching_weights.load_lora(path, models)


def effective_weight(models: Models, loras: Sequence[LoraScale], component: str, name: str) -> Tensor:
    """The parameter `name` of a component as it acts under LoRAs: merged, or what a layer with a low-rank branch
    computes with. models: unet and both text encoders. Raises `Refused` as `load_lora` does."""
    return reaching_weights.effective_weight(models, loras, component, name)


# -- whole pictures


def draw(folder: Path, pictures: Sequence[Picture]) -> list[Pixels]:
    """Draw jobs through the engine, all at once, with the family in `folder`. For each job, in their order, its
    pictures: (seeds, height, width, 3) uint8. Raises `Refused` for a job that is refused."""
    return reaching.draw(folder, pictures)
