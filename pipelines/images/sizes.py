"""The size of a picture that is drawn from another one."""

from math import isqrt

from pipelines.errors import InputFault
from pipelines.spec import Size

MAX_PIXELS = 1024 * 1024
MIN_SIDE = 64
FACTOR = 8  # of the VAE


def size_of_start(width: int, height: int, field: str = "") -> Size:
    """The size to draw for a start picture of `width` x `height` pixels.

    The output has the aspect of its input. An input of more than 1,048,576 pixels is scaled down to that many, none is
    ever scaled up; then both sides are floored to multiples of 8. A side that scaling would push under 64 pixels stays
    at 64, and the other is cut to 16,384: only pictures more than 256 times as long as wide lose their aspect.

    Raises InputFault `image_too_small`, naming `field`, when a side of the input is under 64 pixels.
    """
    if width < MIN_SIDE or height < MIN_SIDE:
        raise InputFault(
            "image_too_small",
            f"Image is {width}x{height} pixels; both sides must be at least {MIN_SIDE}.",
            field,
            {"min_width": MIN_SIDE, "min_height": MIN_SIDE},
        )
    if width * height > MAX_PIXELS:
        # the real-number answer is sqrt(MAX_PIXELS * width / height); in integers the area can never exceed the limit
        width, height = isqrt(MAX_PIXELS * width // height), isqrt(MAX_PIXELS * height // width)
    longest = MAX_PIXELS // MIN_SIDE
    return Size(
        width=min(max(width // FACTOR * FACTOR, MIN_SIDE), longest),
        height=min(max(height // FACTOR * FACTOR, MIN_SIDE), longest),
    )
