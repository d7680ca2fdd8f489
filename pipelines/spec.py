"""The spec: what to draw, in pipeline terms. Immutable, serialisable, free of torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

SamplerName = Literal["euler", "lcm"]
ScheduleName = Literal["sgm_uniform", "lcm", "tail"]
ControlKind = Literal["canny"]

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


class Spec(_Frozen):
    """What to draw. One picture per seed; everything else is common to all of them.

    size: None takes the size from the start image (`pipelines.images.sizes`).
    steps, sampler, schedule, guidance_scale: of the denoising run; at guidance_scale 1 there is no negative pass.
    expand_prompt: whether the prompt expander may lengthen the prompt.
    """

    prompt: str = ""
    negative_prompt: str = ""
    size: Size | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    steps: Annotated[int, Field(ge=1, le=200)]
    sampler: SamplerName
    schedule: ScheduleName
    guidance_scale: float
    loras: tuple[Lora, ...] = ()
    controls: tuple[Control, ...] = ()
    start: Start | None = None
    expand_prompt: bool = False
    check_safety: bool = True
