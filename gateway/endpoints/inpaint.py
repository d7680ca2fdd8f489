"""`fal-ai/fooocus/inpaint`, and the fields that other endpoints share with it (fal-protocol 9.4)."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import FooocusFields, ImagePromptFields
from gateway.endpoints.outputs import FooocusOutput
from gateway.validation import FilledText, OneOf, Text

InpaintMode = Annotated[
    Literal[
        "Inpaint or Outpaint (default)",
        "Improve Detail (face, hand, eyes, etc.)",
        "Modify Content (add objects, change background, etc.)",
    ],
    OneOf(),
]
OutpaintSide = Annotated[Literal["Left", "Right", "Top", "Bottom"], OneOf()]
InpaintEngine = Annotated[Literal["None", "v1", "v2.5", "v2.6"], OneOf()]


class MaskFields(FooocusFields):
    """An image and the part of it to change."""

    inpaint_image_url: Text | None = Field(None, description="http(s) URL or data URI of the image to change.")
    mask_image_url: Text | None = Field(None, description="http(s) URL or data URI of the mask; white is changed.")
    mixing_image_prompt_and_inpaint: bool = Field(False, description="Use image prompts while inpainting.")


class InpaintFields(MaskFields):
    """How the part is changed."""

    inpaint_mode: InpaintMode = Field("Inpaint or Outpaint (default)", description="What kind of change it is.")
    inpaint_additional_prompt: Text = Field("", description="What to draw into the part that is changed.")
    outpaint_selections: Annotated[list[OutpaintSide], Field(max_length=4)] = Field(
        [], description="Sides at which the image is continued."
    )


class FooocusInpaintInput(ImagePromptFields, InpaintFields):
    """Change a part of an image, or continue it beyond its sides."""

    inpaint_image_url: FilledText = Field(description="http(s) URL or data URI of the image to change.")
    override_inpaint_options: bool = Field(False, description="Whether the five options of inpainting below count.")
    inpaint_disable_initial_latent: bool = Field(False, description="Begin from noise alone.")
    inpaint_engine: InpaintEngine = Field("v2.6", description="Version of the inpaint model.")
    # no range is published for the strength; it is that of Fooocus' own slider
    inpaint_strength: float = Field(1.0, ge=0, le=1, description="Share of the denoising; outpainting always has 1.")
    inpaint_respective_field: float = Field(
        0.618,
        ge=0,
        le=1,
        description="0 looks at the masked part only, 1 at the whole image; outpainting always has 1.",
    )
    inpaint_erode_or_dilate: float = Field(
        0.0, ge=-64, le=64, description="Pixels by which the mask grows (or shrinks, below 0), before inversion."
    )
    invert_mask: bool = Field(False, description="Change what the mask leaves out.")


INPAINT = Endpoint("fal-ai/fooocus/inpaint", FooocusInpaintInput, FooocusOutput)
