"""`fal-ai/fooocus/upscale-or-vary`, and the fields that image-prompt shares with it (fal-protocol 9.5)."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import FooocusFields, ImagePromptFields
from gateway.endpoints.outputs import FooocusOutput
from gateway.validation import FilledText, OneOf, Text

UovMethod = Annotated[
    Literal["Disabled", "Vary (Subtle)", "Vary (Strong)", "Upscale (1.5x)", "Upscale (2x)", "Upscale (Fast 2x)"],
    OneOf(),
]


class UovFields(FooocusFields):
    """An image and what becomes of it."""

    uov_image_url: Text | None = Field(None, description="http(s) URL or data URI of the image to upscale or vary.")
    uov_method: UovMethod = Field("Disabled", description="What becomes of the image.")
    mixing_image_prompt_and_vary_upscale: bool = Field(
        False, description="Use image prompts while upscaling or varying."
    )


class FooocusUpscaleOrVaryInput(ImagePromptFields, UovFields):
    """Enlarge an image, or draw variations of it."""

    uov_image_url: FilledText = Field(description="http(s) URL or data URI of the image to upscale or vary.")
    uov_method: UovMethod = Field("Vary (Strong)", description="What becomes of the image.")


UPSCALE_OR_VARY = Endpoint("fal-ai/fooocus/upscale-or-vary", FooocusUpscaleOrVaryInput, FooocusOutput)
