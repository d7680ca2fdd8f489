"""`fal-ai/fooocus/inpaint`, and the fields that other endpoints share with it (fal-protocol 9.4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import FooocusFields, ImagePromptFields, given, guiding_slots
from gateway.endpoints.outputs import FooocusOutput
from gateway.validation import FilledText, OneOf, Text
from pipelines.spec import Canvas, InpaintEngine, Mask, OutpaintSide, Picture, Spec

InpaintMode = Annotated[
    Literal[
        "Inpaint or Outpaint (default)",
        "Improve Detail (face, hand, eyes, etc.)",
        "Modify Content (add objects, change background, etc.)",
    ],
    OneOf(),
]
Side = Annotated[OutpaintSide, OneOf()]
Engine = Annotated[InpaintEngine, OneOf()]

LEAST_STRENGTH = 0.01  # that 0 counts as: there is a run, which changes next to nothing


@dataclass(frozen=True, slots=True)
class InpaintOptions:
    """What a mode sets (fooocus-facts 6.1). outpaints: whether the image is continued at the sides that are chosen."""

    initial_latent: bool = True
    engine: InpaintEngine = "v2.6"
    strength: float = 1.0
    respective_field: float = 0.618
    outpaints: bool = True


INPAINT_MODES: Mapping[str, InpaintOptions] = MappingProxyType(
    {
        "Inpaint or Outpaint (default)": InpaintOptions(),
        "Improve Detail (face, hand, eyes, etc.)": InpaintOptions(
            engine="None", strength=0.5, respective_field=0.0, outpaints=False
        ),
        "Modify Content (add objects, change background, etc.)": InpaintOptions(
            initial_latent=False, respective_field=0.0, outpaints=False
        ),
    }
)
OVERRIDING = (
    *("inpaint_disable_initial_latent", "inpaint_engine", "inpaint_strength"),
    *("inpaint_respective_field", "inpaint_erode_or_dilate"),
)
"""The options that count only with `override_inpaint_options`."""


class MaskFields(FooocusFields):
    """An image and the part of it to change."""

    inpaint_image_url: Text | None = Field(None, description="http(s) URL or data URI of the image to change.")
    mask_image_url: Text | None = Field(None, description="http(s) URL or data URI of the mask; white is changed.")
    mixing_image_prompt_and_inpaint: bool = Field(False, description="Use image prompts while inpainting.")

    def repaints(self) -> bool:
        """Whether the image to change acts."""
        return bool(self.inpaint_image_url)

    def canvas(self) -> Canvas:
        """The image to change."""
        return Canvas(source=self.inpaint_image_url or "", field="inpaint_image_url")

    def spec(self) -> Spec:
        drawn = super().spec()
        if not self.repaints():
            return drawn
        marked = (Mask(source=self.mask_image_url, field="mask_image_url"),) if self.mask_image_url else ()
        return Spec.model_validate({**dict(drawn), "pictures": (self.canvas(), *marked, *drawn.pictures)})

    def ignored(self) -> tuple[str, ...]:
        left = () if self.repaints() else given(self, "inpaint_image_url", "mask_image_url")
        return (*super().ignored(), *left)


class InpaintFields(MaskFields):
    """How the part is changed."""

    inpaint_mode: InpaintMode = Field("Inpaint or Outpaint (default)", description="What kind of change it is.")
    inpaint_additional_prompt: Text = Field("", description="What to draw into the part that is changed.")
    outpaint_selections: Annotated[list[Side], Field(max_length=4)] = Field(
        [], description="Sides at which the image is continued."
    )

    def options(self) -> InpaintOptions:
        """What the mode sets."""
        return INPAINT_MODES[self.inpaint_mode]

    def canvas(self) -> Canvas:
        options = self.options()
        return Canvas(
            source=self.inpaint_image_url or "",
            field="inpaint_image_url",
            outpaint=tuple(dict.fromkeys(self.outpaint_selections)) if options.outpaints else (),
            engine=options.engine,
            strength=options.strength,
            respective_field=options.respective_field,
            initial_latent=options.initial_latent,
        )

    def spec(self) -> Spec:
        drawn = super().spec()
        if not self.repaints():
            return drawn
        lines = filter(None, (self.inpaint_additional_prompt, drawn.prompt))  # the first is the main one
        return drawn.model_copy(update={"prompt": "\n".join(lines)})

    def ignored(self) -> tuple[str, ...]:
        if not self.repaints():
            return (
                *super().ignored(),
                *given(self, "inpaint_mode", "inpaint_additional_prompt", "outpaint_selections"),
            )
        return (*super().ignored(), *(() if self.options().outpaints else given(self, "outpaint_selections")))


class FooocusInpaintInput(ImagePromptFields, InpaintFields):
    """Change a part of an image, or continue it beyond its sides."""

    inpaint_image_url: FilledText = Field(description="http(s) URL or data URI of the image to change.")
    override_inpaint_options: bool = Field(False, description="Whether the five options of inpainting below count.")
    inpaint_disable_initial_latent: bool = Field(False, description="Begin from noise alone.")
    inpaint_engine: Engine = Field("v2.6", description="Version of the inpaint model.")
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

    def canvas(self) -> Canvas:
        canvas = super().canvas().model_copy(update={"inverted": self.invert_mask})
        if not self.override_inpaint_options:
            return canvas
        return canvas.model_copy(
            update={
                "engine": self.inpaint_engine,
                "engine_field": "inpaint_engine",
                "strength": max(self.inpaint_strength, LEAST_STRENGTH),
                "respective_field": self.inpaint_respective_field,
                "initial_latent": not self.inpaint_disable_initial_latent,
                "grow": int(self.inpaint_erode_or_dilate),
            }
        )

    def pictures(self) -> tuple[Picture, ...]:
        return super().pictures() if self.mixing_image_prompt_and_inpaint else ()

    def ignored(self) -> tuple[str, ...]:
        slots = () if self.mixing_image_prompt_and_inpaint else guiding_slots(self)
        options = () if self.override_inpaint_options else given(self, *OVERRIDING)
        return (*super().ignored(), *slots, *options)


INPAINT = Endpoint("fal-ai/fooocus/inpaint", FooocusInpaintInput, FooocusOutput)
