"""The spec: what to draw, in pipeline terms. Immutable, serialisable, free of torch."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

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
StructureKind = Literal["PyraCanny", "CPDS"]  # as fal names them (fal-protocol 9.7)
ReferenceKind = Literal["ImagePrompt", "FaceSwap"]  # likewise
OutpaintSide = Literal["Left", "Right", "Top", "Bottom"]
InpaintEngine = Literal["None", "v1", "v2.5", "v2.6"]  # as fal names them (fal-protocol 9.4)
SafetyCheckerVersion = Literal["v1", "v2"]  # as fal names them (fal-protocol 9.6)

MAX_SEED = 2**64 - 1  # what a generator of noise takes
UNGUIDED = 1e-4  # a guidance scale this near to 1 needs no negative pass

Side = Annotated[int, Field(ge=8, multiple_of=8)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Size(_Frozen):
    """Width and height of a picture in pixels, both multiples of 8 (the VAE's factor)."""

    width: Side
    height: Side


class Lora(_Frozen):
    """A change of the weights, low-rank or other.

    source: a name or an address that the family's catalogue answers, or an address to fetch.
    field: where in the client's input it was named, dotted (`loras.0.path`); empty when it was not the client's.
    performance: whether it belongs to a performance mode, hence to weights that many requests share.
    force: whether what fits of it is taken where it does not fit as a whole; of a file that is named more than once,
    each that acts has to say so.
    """

    source: str
    scale: float
    field: str = ""
    performance: bool = False
    force: bool = False


class Embedding(_Frozen):
    """Vectors that stand for words of a prompt: a textual inversion.

    source: as of a LoRA. tokens: how the prompts spell it; one stands for all of its vectors, several share them in
    order. field: as of a LoRA (`embeddings.0.path`).
    """

    source: str
    tokens: Annotated[tuple[str, ...], Field(min_length=1)] = ("<s0>", "<s1>")  # as fal has it
    field: str = ""


class _Given(_Frozen):
    """What pictures of every role have.

    source: an http(s) address, or `stored:<key>` in the files store. field: where in the client's input it was named,
    dotted (`image_prompt_1.image_url`).
    """

    source: str
    field: str = ""


class Start(_Given):
    """A picture to begin from. strength: the share of the noise schedule that is run, above 0 and at most 1.

    keep_aspect: what is drawn has its proportions and lies within the spec's size. crop: what is drawn is cut to the
    exact proportions that were wanted. Either draws at multiples of 32.
    """

    role: Literal["start"] = "start"
    strength: Annotated[float, Field(gt=0, le=1)]
    keep_aspect: bool = False
    crop: bool = False


class Vary(_Given):
    """A picture to draw variations of, at a size of Fooocus' choice (fooocus-facts 7). strength: as of a start."""

    role: Literal["vary"] = "vary"
    strength: Annotated[float, Field(gt=0, le=1)]


class Upscale(_Given):
    """A picture to enlarge by `factor`, each side; small ones become larger than that (fooocus-facts 7).

    strength: as of a start, of drawing over the enlarged picture; one that is too large for that is enlarged alone.
    """

    role: Literal["upscale"] = "upscale"
    factor: Annotated[float, Field(gt=1, le=4)]
    strength: Annotated[float, Field(gt=0, le=1)] = 0.382


class _Guiding(_Given):
    """What pictures that guide the drawing have.

    weight: 0 is off. stop_at: active while the denoising progress 1 - t/999 is below it; 1 is always.
    """

    weight: float = 1.0
    stop_at: float = 1.0

    @property
    def acts(self) -> bool:
        """Whether it changes the picture at all."""
        return self.weight != 0 and self.stop_at > 0


class Structure(_Guiding):
    """A picture that shows where things are. kind: what of it is taken over."""

    role: Literal["structure"] = "structure"
    kind: StructureKind


class Reference(_Guiding):
    """A picture that shows what things look like. kind: whether all of it is taken over, or the face in it."""

    role: Literal["reference"] = "reference"
    kind: ReferenceKind


class Canvas(_Given):
    """A picture of which a part is drawn anew (fooocus-facts 6). Where nothing of it is marked, it is not drawn from.

    outpaint: the sides at which it is continued; any of them makes strength and respective field 1, as fal documents.
    engine: version of the inpaint model; None blends alone. engine_field: where in the client's input it was named.
    strength: the share of the noise schedule that is run. respective_field: how much around the marked part is drawn
    with it, from 0, next to nothing, to 1, the whole picture. initial_latent: begin from what is there, and else from
    noise alone. grow: pixels by which the mask is dilated (below 0: eroded), before `inverted`: draw what it leaves
    out. resolution: the part is drawn with about as many pixels as a square of this side.
    """

    role: Literal["canvas"] = "canvas"
    outpaint: tuple[OutpaintSide, ...] = ()
    engine: InpaintEngine = "v2.6"
    engine_field: str = ""
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    respective_field: Annotated[float, Field(ge=0, le=1)] = 0.618
    initial_latent: bool = True
    grow: Annotated[int, Field(ge=-64, le=64)] = 0
    inverted: bool = False
    resolution: Annotated[int, Field(ge=64, le=2048, multiple_of=64)] = 1024

    @property
    def acting_strength(self) -> float:
        return 1.0 if self.outpaint else self.strength

    @property
    def acting_field(self) -> float:
        return 1.0 if self.outpaint else self.respective_field


class Mask(_Given):
    """Marks by white, above half of 255, what of the canvas is drawn anew. It is stretched to the canvas' size."""

    role: Literal["mask"] = "mask"


Beginning = Start | Vary | Upscale
"""A picture that the drawing begins from."""
Picture = Annotated[Start | Vary | Upscale | Canvas | Mask | Structure | Reference, Field(discriminator="role")]


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

    @property
    def acts(self) -> bool:
        """Whether the negative prompt is drawn from (fooocus-facts 1)."""
        return abs(self.scale - 1) >= UNGUIDED


class Refiner(_Frozen):
    """The family's refiner draws the last steps, whichever kind it has (fooocus-facts 4.6).

    switch: the share of the steps after which it takes over. method: it goes on where the base is, or begins a run of
    its own from there; one of Stable Diffusion 1.5 has ways of its own instead (`pipelines.refining`).
    field: what of the client's input asks for it, empty where that is none.
    """

    switch: Annotated[float, Field(ge=0, le=1)] = 0.8
    method: Literal["joint", "separate"] = "joint"
    field: str = ""


class Spec(_Frozen):
    """What to draw. One picture per seed; everything else is common to all of them.

    size: None takes the size from the picture that it begins from (`pipelines.images.sizes`), which one to vary or to
    enlarge says in any case, and a canvas where something of it is marked.
    steps, sampler, schedule, guidance: of the denoising run. With 0 steps a picture is enlarged and no more: once,
    whatever the seeds are.
    pictures: what it is drawn from, by role, at most one that it begins from or one canvas among them, with at most one
    mask; whatever is made of them keeps their order.
    styles: names of those whose texts are put round the prompts, in their order (`pipelines.prompts.styles`).
    embeddings: for both prompts, which may name others: `embedding:NAME`.
    expand_prompt: whether the prompt expander may lengthen the prompt.
    check_safety: whether pictures that may not be shown become black. safety_checker_version: who says which these are.
    """

    prompt: str = ""
    negative_prompt: str = ""
    styles: tuple[str, ...] = ()
    size: Size | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    sampler: SamplerName
    schedule: ScheduleName
    guidance: Guidance = Guidance()
    loras: tuple[Lora, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    refiner: Refiner | None = None
    pictures: tuple[Picture, ...] = ()
    steps: Annotated[int, Field(ge=0, le=200)]
    expand_prompt: bool = False
    check_safety: bool = True
    safety_checker_version: SafetyCheckerVersion = "v1"

    @field_validator("pictures")
    @classmethod
    def _has_one_start_at_most(cls, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        if sum(isinstance(picture, Beginning) for picture in pictures) > 1:
            raise ValueError("a picture is drawn from one start at most")
        return pictures

    @field_validator("pictures")
    @classmethod
    def _has_one_canvas_at_most(cls, pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
        canvases, masks = (sum(isinstance(picture, kind) for picture in pictures) for kind in (Canvas, Mask))
        if canvases > 1 or (canvases and any(isinstance(picture, Beginning) for picture in pictures)):
            raise ValueError("a picture is drawn from one canvas at most, and then from no other picture to begin from")
        if masks > canvases:
            raise ValueError("a mask marks a canvas: there is one for one canvas, and none without")
        return pictures

    @field_validator("steps")
    @classmethod
    def _has_steps(cls, steps: int, seen: ValidationInfo) -> int:
        if not steps and not any(isinstance(picture, Upscale) for picture in seen.data.get("pictures", ())):
            raise ValueError("nothing but a picture to enlarge is drawn in 0 steps")
        return steps

    @property
    def start(self) -> Start | None:
        """The picture to draw over as it is, where there is one."""
        return next((picture for picture in self.pictures if isinstance(picture, Start)), None)

    @property
    def beginning(self) -> Beginning | None:
        """The picture that the drawing begins from, in whatever role."""
        return next((picture for picture in self.pictures if isinstance(picture, Beginning)), None)

    @property
    def canvas(self) -> Canvas | None:
        """The picture of which a part is drawn anew, where there is one."""
        return next((picture for picture in self.pictures if isinstance(picture, Canvas)), None)

    def with_sources(self, sources: Mapping[int, str]) -> Self:
        """This spec with other sources of some pictures, by their places in `pictures`.

        By place, not by the former source: two pictures may have the same. Raises IndexError for a place that is none.
        """
        pictures = list(self.pictures)
        for place, source in sources.items():
            pictures[place] = pictures[place].model_copy(update={"source": source})
        return self.model_copy(update={"pictures": tuple(pictures)})
