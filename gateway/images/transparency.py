"""A picture's transparency as a mask: how OpenAI's clients mark what is to be drawn anew."""

from io import BytesIO

from PIL import ImageOps

from gateway.images.codec import load_errors, open_image


def transparent_mask(content: bytes, max_pixels: int, field: str) -> bytes | None:
    """A PNG that is white where a picture is fully transparent and black elsewhere; None for one that is so nowhere.

    field: where in the client's input the picture stands, dotted. Raises ModelError for what cannot be read.
    """
    image, _ = open_image(content, max_pixels, field)
    with load_errors(field):
        image.load()
        if not image.has_transparency_data:
            return None
        upright = ImageOps.exif_transpose(image.convert("RGBA"))
        hole = upright.getchannel("A").point([255] + [0] * 255)
    if hole.getbbox() is None:
        return None
    file = BytesIO()
    hole.save(file, "PNG", compress_level=1)
    return file.getvalue()
