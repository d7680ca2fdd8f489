"""Fields and types that the four Fooocus endpoints share (fal-protocol 9.1, 9.7)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gateway.endpoints.base import Family, Input, Part
from gateway.endpoints.seeds import is_replaced, seeds_of
from gateway.endpoints.sizes import AspectRatio, size_of
from gateway.endpoints.styles import DEFAULT_STYLES, EXPANSION, Style, acting_styles
from gateway.validation import Name, OneOf, Prompt, Text
from gateway.work import Delivery
from pipelines.performance import MODES, PerformanceName
from pipelines.spec import Lora, Picture, Reference, Refiner, Spec, Structure, StructureKind

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
        description="WIDTHxHEIGHT in pixels; each side a multiple of 8 from 64 to 2048.",
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
