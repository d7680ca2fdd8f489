"""The spec: what to draw, in pipeline terms. Immutable, serialisable, free of torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SamplerName = Literal[
    "euler",
    "euler_ancestral",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "dpmpp_sde",
    "lcm",
    "tcd",
    "uni_pc",
    "uni_pc_bh2",
]
ScheduleName = Literal[
    "karras",
    "exponential",
    "normal",
    "simple",
    "sgm_uniform",
    "ddim_uniform",
    "turbo",
    "align_your_steps",
    "lcm",
    "tail",
]
ControlKind = Literal["canny", "cpds"]

MAX_SEED = 2**63 - 1

Side = Annotated[int, Field(ge=8, multiple_of=8)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Size(_Frozen):
    """Width and height of a picture in pixels, both multiples of 8 (the VAE's factor)."""

    width: Side
    height: Side


class Lora(_Frozen):
    """A low-rank change of the weights.

    source: a name or an address that the family's catalogue answers, or an address to fetch.
    field: where in the client's input it was named, dotted (`loras.0.path`); empty when it was not the client's.
    performance: whether it belongs to a performance mode, hence to weights that many requests share.
    """

    source: str
    scale: float
    field: str = ""
    performance: bool = False


class Control(_Frozen):
    """A picture whose structure guides the drawing.

    image: an http(s) address, or `stored:<key>` in the files store.
    weight: 0 is off. stop_at: active while the denoising progress 1 - t/999 is below it; 1 is always.
    """

    kind: ControlKind
    image: str
    weight: float = 1.0
    stop_at: float = 1.0
    field: str = ""


class Start(_Frozen):
    """A picture to begin from. strength: the share of the noise schedule that is run, above 0 and at most 1."""

    image: str
    strength: Annotated[float, Field(gt=0, le=1)]
    field: str = ""


class SizeEmphasis(_Frozen):
    """What the prompts are told of the picture's size, as multiples of it, while progress is below `end`.

    The defaults tell the truth throughout.
    """

    positive: float = 1.0
    negative: float = 1.0
    end: float = 0.0


class Guidance(_Frozen):
    """How the picture is led by its prompts; the defaults are the plain formula.

    scale: at 1 there is no negative pass, and nothing else here but `sizes` acts. mimicked: early steps are led as if
    the scale were at most this. sharpness: 0 to 30. rescale: 0 to 1, against overexposure.
    """

    scale: float = 1.0
    mimicked: float | None = None
    sharpness: Annotated[float, Field(ge=0)] = 0.0
    rescale: float = 0.0
    sizes: SizeEmphasis = SizeEmphasis()


class Spec(_Frozen):
    """What to draw. One picture per seed; everything else is common to all of them.

    size: None takes the size from the start image (`pipelines.images.sizes`).
    steps, sampler, schedule, guidance: of the denoising run.
    expand_prompt: whether the prompt expander may lengthen the prompt.
    """

    prompt: str = ""
    negative_prompt: str = ""
    size: Size | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=200)]
    sampler: SamplerName
    schedule: ScheduleName
    guidance: Guidance = Guidance()
    loras: tuple[Lora, ...] = ()
    controls: tuple[Control, ...] = ()
    start: Start | None = None
    expand_prompt: bool = False
    check_safety: bool = True
