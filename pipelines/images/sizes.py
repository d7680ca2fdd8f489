"""The size of a picture that is drawn from another one, varied or enlarged (fooocus-facts 6.4 and 7)."""

from dataclasses import dataclass
from math import ceil, isqrt, sqrt

from pipelines.errors import InputFault
from pipelines.spec import Size

MAX_PIXELS = 1024 * 1024
MIN_SIDE = 64
FACTOR = 8  # of the VAE
GRID = 64  # sides that Fooocus resizes to are multiples of it
VARIED = 1024, 2048  # the shape ceil of a picture to vary is brought between these
LEAST_ENLARGED = 1024  # the least shape ceil of an enlarged picture
MOST_DENOISED = 2800  # an enlarged picture of a larger shape ceil is not drawn over
MAX_ENLARGED_PIXELS, MAX_ENLARGED_SIDE = 8192 * 8192, 16_383  # ours: what fits into memory, and into a WebP
ROUNDS = 256
SNAPPED = 32  # sides of a fast picture whose proportions are kept are multiples of it


def size_of_start(width: int, height: int, field: str = "") -> Size:
    """The size to draw for a start picture of `width` x `height` pixels.

    The output has the aspect of its input. An input of more than 1,048,576 pixels is scaled down to that many, none is
    ever scaled up; then both sides are floored to multiples of 8. A side that scaling would push under 64 pixels stays
    at 64, and the other is cut to 16,384: only pictures more than 256 times as long as wide lose their aspect.

    Raises InputFault `image_too_small`, naming `field`, when a side of the input is under 64 pixels.
    """
    check_sides(width, height, field)
    width, height = _limited(width, height)
    longest = MAX_PIXELS // MIN_SIDE
    return Size(
        width=min(max(width // FACTOR * FACTOR, MIN_SIDE), longest),
        height=min(max(height // FACTOR * FACTOR, MIN_SIDE), longest),
    )


def shape_ceil(width: float, height: float) -> int:
    """The side of the smallest square of at least that area, in pixels, whose side is a multiple of 64."""
    return GRID * ceil(sqrt(width * height) / GRID)


def at_ceil(width: int, height: int, wanted: int) -> tuple[int, int]:
    """(width, height) of a picture that is resized until its shape ceil is `wanted`.

    A picture that has that already stays as it is, whatever its sides; the others get multiples of 64. Never below 64,
    where Fooocus would come to a side of nothing.
    """
    for _ in range(ROUNDS):
        now = shape_ceil(width, height)
        if now == wanted:
            break
        width, height = (max(GRID, GRID * round(side * (wanted / now) / GRID)) for side in (width, height))
    return width, height


def size_to_vary(width: int, height: int, field: str = "") -> tuple[int, int]:
    """(width, height) to which a picture is resized that is to be varied.

    Raises InputFault `image_too_small`, naming `field`, when a side of the input is under 64 pixels.
    """
    check_sides(width, height, field)
    least, most = VARIED
    return at_ceil(width, height, min(max(shape_ceil(width, height), least), most))


@dataclass(frozen=True, slots=True)
class EnlargedSize:
    """How large an enlarged picture is, in pixels. denoised: whether it is drawn over, for which it is small enough."""

    width: int
    height: int
    denoised: bool


def size_to_enlarge(width: int, height: int, factor: float, field: str = "") -> EnlargedSize:
    """What becomes of a picture that is to be enlarged by `factor`; sides that are no integers are cut off.

    One whose shape ceil would be less than 1024 becomes larger than was asked: it gets that ceil. Raises InputFault,
    naming `field`: `image_too_small` when a side of the input is under 64 pixels, `image_too_large` when the answer
    would have more than 8192 x 8192 pixels or a side of more than 16,383.
    """
    check_sides(width, height, field)
    wide, tall = int(width * factor), int(height * factor)
    most = shape_ceil(width * factor, height * factor)  # of the sides before they are cut off
    if most < LEAST_ENLARGED:
        wide, tall = at_ceil(4 * width, 4 * height, LEAST_ENLARGED)
    if wide * tall > MAX_ENLARGED_PIXELS or max(wide, tall) > MAX_ENLARGED_SIDE:
        share = min(sqrt(MAX_ENLARGED_PIXELS / (wide * tall)), MAX_ENLARGED_SIDE / max(wide, tall))
        raise InputFault(
            "image_too_large",
            f"Image is {width}x{height} pixels; enlarged it would have {wide}x{tall}, and no more than "
            f"{MAX_ENLARGED_PIXELS} pixels and sides of {MAX_ENLARGED_SIDE} are made.",
            field,
            {"max_width": int(width * share), "max_height": int(height * share)},
        )
    return EnlargedSize(wide, tall, most <= MOST_DENOISED)


def latent_size(width: int, height: int) -> Size:
    """The size of what the VAE reads of a picture: the multiples of 8 below its sides."""
    return Size(width=width // FACTOR * FACTOR, height=height // FACTOR * FACTOR)


def fitted_size(
    width: int, height: int, box: Size | None, *, keep_aspect: bool, crop: bool, field: str = ""
) -> tuple[Size, tuple[int, int] | None]:
    """The size to draw for a start picture of `width` x `height` pixels, and what is cut of its centre, if anything is.

    box: the size that was asked for. Without it, and with `keep_aspect`, the input's own proportions are wanted: within
    the box, or as `size_of_start` limits them. The size to draw is that: the box or `size_of_start` as they are, but
    multiples of 32 where `keep_aspect` or `crop` is asked for, the nearest ones and at least 64. crop: (width, height)
    is the largest part of the size to draw that has the wanted proportions to the pixel.
    """
    own = size_of_start(width, height, field) if box is None else box
    if not keep_aspect and not crop:
        return own, None
    if box is None:
        wanted = _limited(width, height)
    elif keep_aspect:
        share = min(box.width / width, box.height / height)
        wanted = max(1, round(width * share)), max(1, round(height * share))
    else:
        wanted = box.width, box.height
    wide, tall = (max(MIN_SIDE, SNAPPED * round(side / SNAPPED)) for side in wanted)
    share = min(wide / wanted[0], tall / wanted[1])
    cut = min(wide, round(wanted[0] * share)), min(tall, round(wanted[1] * share))
    return Size(width=wide, height=tall), cut if crop and cut != (wide, tall) else None


def _limited(width: int, height: int) -> tuple[int, int]:
    """Scaled down to 1,048,576 pixels, where there are more."""
    if width * height <= MAX_PIXELS:
        return width, height
    # the real-number answer is sqrt(MAX_PIXELS * width / height); in integers the area can never exceed the limit
    return isqrt(MAX_PIXELS * width // height), isqrt(MAX_PIXELS * height // width)


def check_sides(width: int, height: int, field: str) -> None:
    """Raise InputFault `image_too_small`, naming `field`, when a side is under 64 pixels."""
    if width < MIN_SIDE or height < MIN_SIDE:
        raise InputFault(
            "image_too_small",
            f"Image is {width}x{height} pixels; both sides must be at least {MIN_SIDE}.",
            field,
            {"min_width": MIN_SIDE, "min_height": MIN_SIDE},
        )
