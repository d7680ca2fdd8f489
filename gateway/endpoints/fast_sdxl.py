"""`fal-ai/fast-fooocus-sdxl` and its image-to-image, with the fields of all client generations (fal-protocol 9.6)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint, Family, FastOutput, Input, Part
from gateway.endpoints.fields import SizeChoice, chosen_size, is_replaced, seeds_of
from gateway.validation import FilledText, Name, OneOf, Prompt, Text, Token
from gateway.work import Delivery
from pipelines.performance import LCM_LORA
from pipelines.spec import MAX_SEED, Guidance, Refiner, SafetyCheckerVersion, Spec, Start
from pipelines.spec import Embedding as Inversion

CheckerVersion = Annotated[SafetyCheckerVersion, OneOf()]
FastFormat = Annotated[Literal["jpeg", "png"], OneOf()]

REFINER = Refiner(method="separate", field="enable_refiner")  # in a run of its own, for it was not made for LCM's steps


class Embedding(Part):
    """A textual inversion: words that a prompt can use."""

    path: Name = Field(
        description="http(s) URL of a safetensors file, a hub's name (owner/repo or owner/repo/path/file.safetensors), "
        "the URL of an upload, or a name that the service knows."
    )
    tokens: Annotated[list[Token], Field(min_length=1, max_length=16)] = Field(
        ["<s0>", "<s1>"],
        description="The words that stand for it in a prompt: one for all of its vectors, several share them in order.",
    )


class FastFields(Input):
    """What both fast endpoints take. The ranges that fal prints for image-to-image hold for both."""

    family: ClassVar[Family] = "fast"

    prompt: Prompt = Field(description="What to draw.")
    negative_prompt: Prompt = Field("", description="What to keep out of the picture.")
    num_inference_steps: int = Field(8, ge=1, le=24, description="Steps of the denoising.")
    guidance_scale: float = Field(2.0, ge=0, le=20, description="How closely the picture keeps to the prompt.")
    guidance_rescale: float = Field(0.0, ge=0, le=1, description="Rescaling of the guidance, against overexposure.")
    seed: int | None = Field(
        None,
        description="The same seed and request repeat the picture; picture i has seed + i. "
        "None, or a value outside 0 to 2**64 - 1, is a random seed.",
    )
    num_images: int = Field(1, ge=1, le=8, description="How many pictures to draw.")
    # the limits of the lists of embeddings and tokens are ours: they bound the answer to a malformed request
    embeddings: Annotated[list[Embedding], Field(max_length=16)] = Field([], description="Textual inversions to load.")
    enable_refiner: bool = Field(True, description="Let a smaller model finish the picture.")
    enable_safety_checker: bool = Field(True, description="Check the pictures for content that is not safe for work.")
    safety_checker_version: CheckerVersion = Field(
        "v1", description="Which safety checker: v1 compares a picture with unwanted concepts, v2 is a classifier."
    )
    expand_prompt: bool = Field(True, description="Let a language model add words to the prompt.")
    format: FastFormat = Field("jpeg", description="Format of the pictures.")
    request_id: Text = Field("", description="An id that newer clients know; it has no effect.")

    def seeds(self) -> tuple[int, ...]:
        """Of the pictures."""
        return seeds_of(self.seed, self.num_images, MAX_SEED)

    def delivery(self) -> Delivery:
        return Delivery(format=self.format)

    def ignored(self) -> tuple[str, ...]:
        """Requests have ids of the service's own; a random seed may stand for the client's."""
        replaced = ("seed",) if is_replaced(self.seed, MAX_SEED) else ()
        return (*super().ignored(), *replaced, *(("request_id",) if self.request_id else ()))

    def inversions(self) -> tuple[Inversion, ...]:
        """The embeddings to read the prompts with."""
        return tuple(
            Inversion(source=each.path, tokens=tuple(each.tokens), field=f"embeddings.{index}.path")
            for index, each in enumerate(self.embeddings)
        )


class FastFooocusSdxlInput(FastFields):
    """Draw a picture from a prompt in few steps."""

    image_size: SizeChoice = Field("square_hd", description="A preset, or an object with width and height.")

    def spec(self) -> Spec:
        return Spec(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            size=chosen_size(self.image_size),
            seeds=self.seeds(),
            steps=self.num_inference_steps,
            sampler="lcm",
            schedule="lcm",
            guidance=Guidance(scale=self.guidance_scale, rescale=self.guidance_rescale),
            loras=(LCM_LORA,),
            embeddings=self.inversions(),
            refiner=REFINER if self.enable_refiner else None,
            expand_prompt=self.expand_prompt,
            check_safety=self.enable_safety_checker,
            safety_checker_version=self.safety_checker_version,
        )


class FastFooocusSdxlImageToImageInput(FastFields):
    """Draw a picture from a prompt and an image to begin from, in few steps."""

    image_url: FilledText = Field(description="http(s) URL or data URI of the image to begin from.")
    image_size: SizeChoice | None = Field(
        None, description="A preset, or an object with width and height; without one it is taken from the image."
    )
    strength: float = Field(
        0.95, ge=0.05, le=1, description="How far the picture may depart from the image; 1 forgets it."
    )
    crop_output: bool = Field(
        False,
        description="Draw at multiples of 32 pixels, then crop the picture to the exact aspect ratio: of `image_size`, "
        "or of the image where there is none or its aspect ratio is preserved.",
    )
    preserve_aspect_ratio: bool = Field(
        False, description="Keep the image's aspect ratio, within `image_size`, to the nearest multiples of 32 pixels."
    )

    def spec(self) -> Spec:
        return Spec(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            size=None if self.image_size is None else chosen_size(self.image_size),
            seeds=self.seeds(),
            steps=self.num_inference_steps,
            sampler="lcm",
            schedule="tail",
            guidance=Guidance(scale=self.guidance_scale, rescale=self.guidance_rescale),
            loras=(LCM_LORA,),
            embeddings=self.inversions(),
            refiner=REFINER if self.enable_refiner else None,
            pictures=(self._start(),),
            expand_prompt=self.expand_prompt,
            check_safety=self.enable_safety_checker,
            safety_checker_version=self.safety_checker_version,
        )

    def _start(self) -> Start:
        return Start(
            source=self.image_url,
            field="image_url",
            strength=self.strength,
            keep_aspect=self.preserve_aspect_ratio,
            crop=self.crop_output,
        )


FAST_SDXL = Endpoint("fal-ai/fast-fooocus-sdxl", FastFooocusSdxlInput, FastOutput)
FAST_SDXL_IMAGE_TO_IMAGE = Endpoint(
    "fal-ai/fast-fooocus-sdxl/image-to-image", FastFooocusSdxlImageToImageInput, FastOutput
)
