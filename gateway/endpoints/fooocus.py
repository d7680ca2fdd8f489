"""`fal-ai/fooocus` (fal-protocol 9.2)."""

from pydantic import Field

from gateway.endpoints.base import Endpoint
from gateway.endpoints.common import ImagePromptType, StopAt, Weight, given, guiding
from gateway.endpoints.inpaint import MaskFields
from gateway.endpoints.outputs import FooocusOutput
from gateway.validation import Text
from pipelines.spec import Picture


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
