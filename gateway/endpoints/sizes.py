"""Sizes of pictures as clients write them: `1152x896`, a preset's name, or an object (fal-protocol 9.7)."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from gateway.endpoints.base import Part
from gateway.validation import OneOf
from pipelines.spec import Size

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

    width: Side = Field(512, description="Width in pixels; the nearest multiple of 8 is drawn.")
    height: Side = Field(512, description="Height in pixels; the nearest multiple of 8 is drawn.")


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
