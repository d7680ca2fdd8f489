"""What drawing a spec costs, as far as one can know without its pictures. Pure: without torch and pydantic."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.spec import Spec

UNIT = 1024 * 1024  # pixels of a row that counts as one
LATENT_UNIT = UNIT // 64  # of its latent
TWICE = frozenset({"heun", "dpmpp_sde"})  # samplers that ask the model twice in every step but the last
NOT_DRAWN = 2.0  # what enlarging alone costs, and decoding what comes of it
MOST_DENOISED = 2800**2  # pixels of an enlarged picture beyond which it is not drawn over


def row_steps_of(spec: "Spec") -> float:
    """How many rows of UNet calls it takes to draw `spec`, in rows of 1024 x 1024 pixels.

    Pictures that a client gives are not read for it: they are taken to be as large as what is drawn without a size, so
    that the cost of an enlarged or continued one is an estimate.
    """
    if spec.steps == 0:
        return NOT_DRAWN
    evaluations = 2 * spec.steps - 1 if spec.sampler in TWICE else spec.steps
    passes = 2 if spec.guidance.acts else 1
    return len(spec.seeds) * evaluations * passes * pixels_of(spec) / UNIT


def pixels_of(spec: "Spec") -> float:
    """Of one picture while it is denoised."""
    if spec.canvas is not None:
        return float(spec.canvas.resolution**2)
    beginning = spec.beginning
    if beginning is not None and beginning.role == "upscale":
        return min(UNIT * beginning.factor**2, MOST_DENOISED)
    return float(UNIT if spec.size is None else spec.size.width * spec.size.height)
