"""The area of a picture that is drawn anew, as a box around its hole (fooocus-facts 6.4)."""

from dataclasses import dataclass

import numpy as np

from pipelines.events import Pixels
from pipelines.images.masks import Mask

MARGIN = 1.15  # of the first box to the longer side of the hole


@dataclass(frozen=True, slots=True)
class Box:
    """Rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def cut(self, pixels: Pixels) -> Pixels:
        """What of a picture or a mask, (height, width, ...), lies in the box."""
        return pixels[self.top : self.bottom, self.left : self.right]


def area_of(mask: Mask, field: float) -> Box:
    """The box around the hole of a mask which has one.

    field: 0 is the hole and little around it, 1 the whole picture, in between at least that share of both sides.
    """
    height, width = mask.shape
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    first = [(int(each[0]), int(each[-1])) for each in (rows, columns)]
    half = int(MARGIN * max((last - least) // 2 for least, last in first))
    (top, bottom), (left, right) = (
        (max((least + last) // 2 - half, 0), min((least + last) // 2 + half + 1, length))
        for (least, last), length in zip(first, (height, width), strict=True)
    )
    if field >= 1:
        return Box(0, height, 0, width)
    while bottom - top < field * height or right - left < field * width:
        tall, wide = bottom - top, right - left
        if tall < wide or wide == width:
            top, bottom = max(top - 1, 0), min(bottom + 1, height)
        if tall >= wide or tall == height:
            left, right = max(left - 1, 0), min(right + 1, width)
    return Box(top, bottom, left, right)
