"""`fal-ai/fooocus/image-prompt` (fal-protocol 9.3)."""

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import ImagePrompt, ImagePromptFields
from gateway.endpoints.inpaint import InpaintFields
from gateway.endpoints.outputs import FooocusOutput
from gateway.endpoints.upscale_or_vary import UovFields


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
