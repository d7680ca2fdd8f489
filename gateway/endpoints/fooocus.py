"""The four Fooocus endpoints: text, image prompt, inpaint, upscale or vary (fal-protocol 9.2 to 9.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint, FooocusOutput
from gateway.endpoints.fields import (
    FooocusFields,
    ImagePrompt,
    ImagePromptFields,
    ImagePromptType,
    StopAt,
    Weight,
    given,
    guiding,
    guiding_slots,
)
from gateway.validation import FilledText, OneOf, Text
from pipelines.performance import MODES
from pipelines.spec import Canvas, InpaintEngine, Mask, OutpaintSide, Picture, Spec, Upscale, Vary

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


UovMethod = Annotated[
    Literal["Disabled", "Vary (Subtle)", "Vary (Strong)", "Upscale (1.5x)", "Upscale (2x)", "Upscale (Fast 2x)"],
    OneOf(),
]


VARIED: Mapping[str, float] = MappingProxyType({"Vary (Subtle)": 0.5, "Vary (Strong)": 0.85})
"""Shares of the noise schedule that are run (fooocus-facts 7)."""
FACTORS: Mapping[str, float] = MappingProxyType({"Upscale (1.5x)": 1.5, "Upscale (2x)": 2.0, "Upscale (Fast 2x)": 2.0})
FAST = "Upscale (Fast 2x)"  # enlarges and draws nothing
OF_DRAWING = ("prompt", "negative_prompt", "performance", "guidance_scale", "sharpness", "num_images", "loras")
"""Fields that say how something is drawn, besides the image prompts."""


class UovFields(FooocusFields):
    """An image and what becomes of it."""

    uov_image_url: Text | None = Field(None, description="http(s) URL or data URI of the image to upscale or vary.")
    uov_method: UovMethod = Field("Disabled", description="What becomes of the image.")
    mixing_image_prompt_and_vary_upscale: bool = Field(
        False, description="Use image prompts while upscaling or varying."
    )

    def varies_or_upscales(self) -> bool:
        """Whether the image acts."""
        return bool(self.uov_image_url) and self.uov_method != "Disabled"

    def spec(self) -> Spec:
        drawn = super().spec()
        if not self.varies_or_upscales():
            return drawn
        given: dict[str, Any] = {"source": self.uov_image_url, "field": "uov_image_url"}
        changed: dict[str, Any] = {"size": None}  # which the image says
        if self.uov_method in VARIED:
            begun: Vary | Upscale = Vary(**given, strength=VARIED[self.uov_method])
        else:
            begun = Upscale(**given, factor=FACTORS[self.uov_method])
            changed["steps"] = MODES[self.performance].enlarged_steps
        changed["pictures"] = (begun, *drawn.pictures)
        if self.uov_method == FAST:
            # one image without prompt and weights, whatever else is asked for
            changed |= {"steps": 0, "seeds": drawn.seeds[:1], "pictures": (begun,), "loras": (), "expand_prompt": False}
        return Spec.model_validate({**dict(drawn), **changed})

    def ignored(self) -> tuple[str, ...]:
        if not self.varies_or_upscales() or self.uov_method != FAST:
            return super().ignored()
        return (*super().ignored(), *given(self, *OF_DRAWING), *guiding_slots(self))


class FooocusUpscaleOrVaryInput(ImagePromptFields, UovFields):
    """Enlarge an image, or draw variations of it."""

    uov_image_url: FilledText = Field(description="http(s) URL or data URI of the image to upscale or vary.")
    uov_method: UovMethod = Field("Vary (Strong)", description="What becomes of the image.")

    def pictures(self) -> tuple[Picture, ...]:
        return super().pictures() if self.mixing_image_prompt_and_vary_upscale else ()

    def ignored(self) -> tuple[str, ...]:
        left = () if self.mixing_image_prompt_and_vary_upscale or self.uov_method == FAST else guiding_slots(self)
        return (*super().ignored(), *left)


UPSCALE_OR_VARY = Endpoint("fal-ai/fooocus/upscale-or-vary", FooocusUpscaleOrVaryInput, FooocusOutput)


class FooocusImagePromptInput(ImagePromptFields, InpaintFields, UovFields):
    """Draw a picture that up to four images guide."""

    image_prompt_1: ImagePrompt = Field(description="First image prompt.")

    def repaints(self) -> bool:
        return self.mixing_image_prompt_and_inpaint and super().repaints()

    def varies_or_upscales(self) -> bool:
        """Not where a part of an image is changed, which is the picture to begin from then."""
        return self.mixing_image_prompt_and_vary_upscale and super().varies_or_upscales() and not self.repaints()

    def ignored(self) -> tuple[str, ...]:
        left = super().varies_or_upscales() and not self.varies_or_upscales()
        return (*super().ignored(), *(("uov_image_url", "uov_method") if left else ()))


IMAGE_PROMPT = Endpoint("fal-ai/fooocus/image-prompt", FooocusImagePromptInput, FooocusOutput)


class FooocusInput(MaskFields):
    """Draw a picture from a prompt, guided by an image where one is given."""

    control_image_url: Text | None = Field(
        None, description="http(s) URL or data URI of an image that guides the drawing."
    )
    control_type: ImagePromptType = Field("PyraCanny", description="What of the control image is taken over.")
    control_image_weight: Weight = Field(1.0, description="Strength of the control image; 0 is none.")
    control_image_stop_at: StopAt = Field(
        1.0, description="Progress of the denoising at which the image stops guiding it."
    )

    def pictures(self) -> tuple[Picture, ...]:
        if not self.control_image_url or not self._is_controlled():
            return ()
        how = self.control_image_weight, self.control_image_stop_at
        return (guiding(self.control_type, self.control_image_url, *how, "control_image_url"),)

    def _is_controlled(self) -> bool:
        """Beside an image to change a control image acts only where they are mixed (fooocus-facts 5.1)."""
        return self.mixing_image_prompt_and_inpaint or not self.repaints()

    def ignored(self) -> tuple[str, ...]:
        return (*super().ignored(), *(() if self._is_controlled() else given(self, "control_image_url")))


FOOOCUS = Endpoint("fal-ai/fooocus", FooocusInput, FooocusOutput)
