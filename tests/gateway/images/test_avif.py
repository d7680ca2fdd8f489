"""An AVIF file is judged by the pictures that it makes its decoder draw, whatever it declares."""

import struct

import pytest
from PIL import Image

from gateway.errors import ModelError
from gateway.images.avif import first_picture
from gateway.images.codec import decode_image
from tests.gateway.picture_files import saved

CAP = 10_000


def declared_smaller(image: Image.Image) -> bytes:
    content = bytearray(saved(image, "AVIF", speed=10))
    place = content.index(b"ispe") + 8
    content[place : place + 8] = struct.pack(">II", 8, 8)
    return bytes(content)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_picture_that_declares_less_than_it_has_is_refused_before_decoding(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = declared_smaller(Image.new(mode, (640, 480)))
    opened: list[object] = []
    monkeypatch.setattr("PIL.AvifImagePlugin.AvifImageFile._open", opened.append)
    with pytest.raises(ModelError) as caught:
        decode_image(content, CAP, "image_url")
    assert (caught.value.type, opened) == ("image_load_error", [])


def test_a_forbidden_bit_hides_no_picture() -> None:
    content = bytearray(declared_smaller(Image.new("RGB", (640, 480))))
    place = content.index(b"mdat") + 4
    assert content[place : place + 3] == b"\x12\0\n"  # a delimiter without content, then the sequence's header
    content[place] |= 0x80
    content[place + 2] |= 0x80
    with pytest.raises(ValueError, match="larger"):
        first_picture(bytes(content), CAP)


def test_transparency_is_no_second_picture_too_many() -> None:
    assert decode_image(saved(Image.new("RGBA", (100, 100)), "AVIF", speed=10), CAP, "").shape == (100, 100, 3)
