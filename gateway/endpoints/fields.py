"""Fields that endpoints share: sizes, seeds, and what the four of Fooocus have in common (fal-protocol 9.1, 9.7)."""

import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from gateway.endpoints.base import Family, Input, Part
from gateway.endpoints.styles import DEFAULT_STYLES, EXPANSION, Style, acting_styles
from gateway.validation import Name, OneOf, Prompt, Text
from gateway.work import Delivery
from pipelines.performance import MODES, PerformanceName
from pipelines.spec import Lora, Picture, Reference, Refiner, Size, Spec, Structure, StructureKind

FOOOCUS_SEED = 2**63 - 1  # the greatest of Fooocus; fal prints greater ones of the fast endpoints
RANDOM_SEEDS = 2**53  # a drawn seed is below it, so that a JavaScript number can hold it exactly


def seeds_of(seed: int | None, count: int, greatest: int = FOOOCUS_SEED) -> tuple[int, ...]:
    """One seed per picture: `seed`, `seed + 1`, … from 0 again above `greatest`. None and integers outside 0..greatest
    mean random.
    """
    first = secrets.randbelow(RANDOM_SEEDS) if seed is None or is_replaced(seed, greatest) else seed
    return tuple((first + index) % (greatest + 1) for index in range(count))


def is_replaced(seed: int | None, greatest: int = FOOOCUS_SEED) -> bool:
    """Whether a random seed stands for one that was given."""
    return seed is not None and not 0 <= seed <= greatest


FACTOR = 8  # the VAE's
MIN_SIDE = 64
MAX_SIDE = 2048  # hence at most 4,194,304 pixels

_ASPECT_RATIO = re.compile(r"\s*([0-9]{1,6})\s*[xX*×]\s*([0-9]{1,6})\s*")


def size_of(aspect_ratio: str) -> Size:
    """The size that `WIDTHxHEIGHT` names. Raises PydanticCustomError with fal's type for a malformed or unfit one."""
    found = _ASPECT_RATIO.fullmatch(aspect_ratio)
    if found is None:
        raise PydanticCustomError("value_error", "Input should be WIDTHxHEIGHT in pixels, such as 1152x896")
    width, height = (_side(name, int(text)) for name, text in zip(("Width", "Height"), found.groups(), strict=True))
    return Size(width=width, height=height)


def _side(name: str, side: int) -> int:
    if side < MIN_SIDE:
        raise PydanticCustomError("greater_than_equal", f"{name} should be at least {{ge}} pixels", {"ge": MIN_SIDE})
    if side > MAX_SIDE:
        raise PydanticCustomError("less_than_equal", f"{name} should be at most {{le}} pixels", {"le": MAX_SIDE})
    if side % FACTOR:
        raise PydanticCustomError(
            "multiple_of", f"{name} should be a multiple of {{multiple_of}} pixels", {"multiple_of": FACTOR}
        )
    return side


def _fit(aspect_ratio: str) -> str:
    size_of(aspect_ratio)
    return aspect_ratio


AspectRatio = Annotated[str, AfterValidator(_fit)]

Preset = Annotated[
    Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"],
    OneOf(also="an object with width and height"),
]
PRESETS: Mapping[str, Size] = MappingProxyType(
    {
        "square_hd": Size(width=1024, height=1024),
        "square": Size(width=512, height=512),
        "portrait_4_3": Size(width=768, height=1024),
        "portrait_16_9": Size(width=576, height=1024),
        "landscape_4_3": Size(width=1024, height=768),
        "landscape_16_9": Size(width=1024, height=576),
    }
)


def snapped(side: int) -> int:
    """The nearest multiple of 8, of two the greater one: what is drawn for a side that is none."""
    return (side + FACTOR // 2) // FACTOR * FACTOR


# fal's own limits are above 0 and at most 14142; these are what can be drawn
Side = Annotated[int, Field(ge=MIN_SIDE, le=MAX_SIDE)]


class ImageSize(Part):
    """Width and height in pixels. The nearest multiples of 8 are drawn, and told in the output."""

    width: Side = Field(512, description=f"Width in pixels; the nearest multiple of {FACTOR} is drawn.")
    height: Side = Field(512, description=f"Height in pixels; the nearest multiple of {FACTOR} is drawn.")


def _form(value: Any) -> str:
    return "<object>" if isinstance(value, dict | ImageSize) else "<preset>"


# chosen by its form, so that a violation speaks of the one form that was sent
SizeChoice = Annotated[
    Annotated[ImageSize, Tag("<object>")] | Annotated[Preset, Tag("<preset>")],
    Discriminator(_form),
]


def chosen_size(choice: ImageSize | str) -> Size:
    """The size of an `image_size` that was validated."""
    if isinstance(choice, str):
        return PRESETS[choice]
    return Size(width=snapped(choice.width), height=snapped(choice.height))


OFFSET_LORA = (
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
    "sd_xl_offset_example-lora_1.0.safetensors"
)

# these modes force their own values, as in Fooocus (fooocus-facts 1)
NO_EFFECT = " Without effect in the performance modes Extreme Speed and Lightning."

Performance = Annotated[PerformanceName, OneOf()]
ImagePromptType = Annotated[Literal["ImagePrompt", StructureKind, "FaceSwap"], OneOf()]
RefinerModel = Annotated[Literal["None", "realisticVisionV60B1_v51VAE.safetensors"], OneOf()]
OutputFormat = Annotated[Literal["png", "jpeg", "webp"], OneOf()]

# fal publishes no ranges for these two; they are those of Fooocus' own sliders
Weight = Annotated[float, Field(ge=0, le=2)]
StopAt = Annotated[float, Field(ge=0, le=1)]


class LoraWeight(Part):
    """A LoRA to draw with."""

    path: Name = Field(
        description="http(s) URL of a safetensors file, a hub's name (owner/repo or owner/repo/path/file.safetensors), "
        "the URL of an upload, or a name that the service knows."
    )
    scale: float = Field(1.0, description="Strength of the LoRA.")
    force: bool = Field(False, description="Draw with what of the LoRA fits, even where much of it does not.")


class ImagePrompt(Part):
    """An image that guides the drawing. Without `image_url` it is left out."""

    type: ImagePromptType = Field("ImagePrompt", description="What of the image is taken over.")
    image_url: Text | None = Field(None, description="http(s) URL or data URI of the image.")
    stop_at: StopAt = Field(0.5, description="Progress of the denoising at which the image stops guiding it.")
    weight: Weight = Field(1.0, description="Strength of the guidance; 0 is none.")


def guiding(type: ImagePromptType, image_url: str, weight: float, stop_at: float, field: str) -> Picture:
    """The picture of an image prompt, in the role that its type means."""
    match type:
        case "ImagePrompt" | "FaceSwap" as kind:
            return Reference(source=image_url, field=field, kind=kind, weight=weight, stop_at=stop_at)
        case kind:
            return Structure(source=image_url, field=field, kind=kind, weight=weight, stop_at=stop_at)


class FooocusFields(Input):
    """What every Fooocus endpoint takes. All optional."""

    family: ClassVar[Family] = "fooocus"

    prompt: Prompt = Field("", description="What to draw.")
    negative_prompt: Prompt = Field("", description="What to keep out of the picture." + NO_EFFECT)
    styles: Annotated[list[Style], Field(max_length=277)] = Field(
        [*DEFAULT_STYLES],
        description="Styles to draw in. Their texts are put round the prompt, in this order.",
    )
    performance: Performance = Field("Extreme Speed", description="Trade of speed for quality.")
    guidance_scale: float = Field(4.0, ge=1, le=30, description="How closely to keep to the prompt." + NO_EFFECT)
    sharpness: float = Field(2.0, ge=0, le=30, description="Higher values give more texture." + NO_EFFECT)
    aspect_ratio: AspectRatio = Field(
        "1024x1024",
        description=f"WIDTHxHEIGHT in pixels; each side a multiple of {FACTOR} from {MIN_SIDE} to {MAX_SIDE}.",
        examples=["1024x1024", "1152x896"],
    )
    num_images: int = Field(1, ge=1, le=4, description="How many pictures to draw.")
    loras: Annotated[list[LoraWeight], Field(max_length=5)] = Field(
        [LoraWeight(path=OFFSET_LORA, scale=0.1)], description="LoRAs to draw with, up to five."
    )
    refiner_model: RefinerModel = Field(
        "None", description="Model that takes over for the last steps: the refiner that the server has." + NO_EFFECT
    )
    # the published steps of 0.0001 here and 0.001 and 1 elsewhere are those of a slider, not a rule
    refiner_switch: float = Field(0.8, ge=0, le=1, description="Share of the steps after which the refiner takes over.")
    output_format: OutputFormat = Field("jpeg", description="Format of the pictures.")
    sync_mode: bool = Field(False, description="Return the pictures as data URIs.")
    seed: int | None = Field(
        None,
        description="The same seed and request repeat the picture; picture i has seed + i. "
        "None, or a value outside 0 to 2**63 - 1, is a random seed.",
    )
    enable_safety_checker: bool = Field(True, description="Check the pictures for content that is not safe for work.")

    def pictures(self) -> tuple[Picture, ...]:
        """The images that guide the drawing."""
        return ()

    def spec(self) -> Spec:
        mode = MODES[self.performance]
        ours = "loras" not in self.model_fields_set
        loras = (
            Lora(
                source=lora.path,
                scale=lora.scale,
                field="" if ours else f"loras.{index}.path",
                force=lora.force,
            )
            for index, lora in enumerate(self.loras)
        )
        return Spec(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            styles=acting_styles(self.styles),
            size=size_of(self.aspect_ratio),
            seeds=seeds_of(self.seed, self.num_images),
            steps=mode.steps,
            sampler=mode.sampler,
            schedule=mode.schedule,
            guidance=mode.guidance(self.guidance_scale, self.sharpness),
            loras=(*loras, mode.lora) if mode.lora else (*loras,),
            refiner=self._refiner() if mode.lora is None else None,
            pictures=self.pictures(),
            expand_prompt=EXPANSION in self.styles,
            check_safety=self.enable_safety_checker,
        )

    def _refiner(self) -> Refiner | None:
        """The family's: fal's name of a model stands for whichever there is."""
        if self.refiner_model == "None":
            return None
        return Refiner(switch=self.refiner_switch, field="refiner_model")

    def ignored(self) -> tuple[str, ...]:
        return (*super().ignored(), *(("seed",) if is_replaced(self.seed) else ()))

    def delivery(self) -> Delivery:
        return Delivery(format=self.output_format, inline=self.sync_mode)


class ImagePromptFields(FooocusFields):
    """Four places for image prompts."""

    image_prompt_1: ImagePrompt | None = Field(None, description="First image prompt.")
    image_prompt_2: ImagePrompt | None = Field(None, description="Second image prompt.")
    image_prompt_3: ImagePrompt | None = Field(None, description="Third image prompt.")
    image_prompt_4: ImagePrompt | None = Field(None, description="Fourth image prompt.")

    def pictures(self) -> tuple[Picture, ...]:
        slots = (self.image_prompt_1, self.image_prompt_2, self.image_prompt_3, self.image_prompt_4)
        return tuple(
            guiding(slot.type, slot.image_url, slot.weight, slot.stop_at, f"image_prompt_{number}.image_url")
            for number, slot in enumerate(slots, start=1)
            if slot is not None and slot.image_url
        )


def given(asked: FooocusFields, *names: str) -> tuple[str, ...]:
    """Which of these fields have another value than their default."""
    return tuple(name for name in names if getattr(asked, name) != type(asked).model_fields[name].default)


def guiding_slots(asked: FooocusFields) -> tuple[str, ...]:
    """The image prompts that have an image, of an input that may have such fields."""
    slots = (f"image_prompt_{number}" for number in range(1, 5))
    return tuple(name for name in slots if (slot := getattr(asked, name, None)) is not None and slot.image_url)
