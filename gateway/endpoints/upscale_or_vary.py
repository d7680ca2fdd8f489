"""`fal-ai/fooocus/upscale-or-vary`, and the fields that image-prompt shares with it (fal-protocol 9.5)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import FooocusFields, ImagePromptFields, given, guiding_slots
from gateway.endpoints.outputs import FooocusOutput
from gateway.validation import FilledText, OneOf, Text
from pipelines.performance import MODES
from pipelines.spec import Picture, Spec, Upscale, Vary

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
