"""How many pixels an AVIF file makes its decoder draw: by its coded pictures, for what it declares may be less."""

from collections.abc import Iterator

_SEQUENCE_HEADER = 1  # the kind of an OBU (AV1 specification, 6.2.2)
_SHARES = 3  # a picture, its transparency, and what tiles have beyond their grid

Box = tuple[bytes, int, int]  # kind, where its content begins and ends


def is_avif(content: bytes) -> bool:
    """By its first box, of a still picture or of an animation."""
    return content[4:12] in (b"ftypavif", b"ftypavis")


def first_picture(content: bytes, max_pixels: int) -> bytes:
    """The file as one of a still picture, which every animation has one of.

    Raises ValueError or IndexError for what is broken, for forms that no encoder of pictures writes, and where its
    coded pictures have far more than `max_pixels` together, whatever size the file declares.
    """
    if sum(map(_pixels, _items(content))) > _SHARES * max_pixels:
        raise ValueError("the coded pictures are larger than is declared")
    return content[:8] + b"avif" + content[12:]


def _boxes(content: bytes, begin: int, end: int) -> Iterator[Box]:
    while begin + 8 <= end:
        size, head = int.from_bytes(content[begin : begin + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(content[begin + 8 : begin + 16], "big"), 16
        elif size == 0:
            size = end - begin
        if size < head or begin + size > end:
            raise ValueError("a box is cut off")
        yield content[begin + 4 : begin + 8], begin + head, begin + size
        begin += size


def _only(boxes: Iterator[Box], kind: bytes) -> tuple[int, int]:
    ((begin, end),) = [(begin, end) for each, begin, end in boxes if each == kind]
    return begin, end


class _Reader:
    """Reads whole numbers of bytes, from the most significant one on."""

    def __init__(self, content: bytes, begin: int, end: int) -> None:
        self._content, self._at, self._end = content, begin, end

    def number(self, size: int) -> int:
        self._at += size
        if self._at > self._end:
            raise ValueError("a box is too short")
        return int.from_bytes(self._content[self._at - size : self._at], "big")


def _items(content: bytes) -> Iterator[bytes]:
    """The data of each item (ISO/IEC 14496-12, the box `iloc`), together not much more than the file has."""
    left = 2 * len(content)
    begin, end = _only(_boxes(content, 0, len(content)), b"meta")
    read = _Reader(content, *_only(_boxes(content, begin + 4, end), b"iloc")).number
    version, _, sizes, more = read(1), read(3), read(1), read(1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    wide = 4 if version == 2 else 2
    if version > 2:
        raise ValueError("an unknown version")
    for _ in range(read(wide)):
        read(wide)  # its number
        if version and read(2) & 15:
            raise ValueError("an item that lies elsewhere")
        read(2)  # which file: this one
        base = read(base_size)
        pieces = []
        for _ in range(read(2)):
            read(index_size)
            start = base + read(offset_size)
            length = read(length_size) or len(content) - start
            left -= length
            if start + length > len(content) or left < 0:
                raise ValueError("an item is cut off, or has data of others")
            pieces.append(content[start : start + length])
        yield b"".join(pieces)


def _pixels(item: bytes) -> int:
    """Of the largest picture that the OBUs of an item may have; 0 for an item that has none, such as EXIF data."""
    largest, at = 0, 0
    while at < len(item):
        head = item[at]
        at += 2 if head & 4 else 1  # with an extension
        size = len(item) - at
        if head & 2:
            size, at = _leb128(item, at)
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            largest = max(largest, _largest_frame(item[at : at + size]))
        at += size
    return largest


def _leb128(item: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = item[at + place]
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at + place + 1
    raise ValueError("a size without an end")


def _largest_frame(header: bytes) -> int:
    """Pixels of the largest frame after a sequence header (AV1 specification, 5.5.1)."""
    bits, at = f"{int.from_bytes(header, 'big'):0{8 * len(header)}b}", 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    read(4)  # profile, and whether it is a still picture
    if read(1):  # a short header
        read(5)
    else:
        if read(1):
            raise ValueError("a picture that says when it is shown")
        delays = read(1)
        for _ in range(read(5) + 1):
            read(12)
            if read(5) > 7:
                read(1)
            if delays and read(1):
                read(4)
    width_bits, height_bits = read(4) + 1, read(4) + 1
    return (read(width_bits) + 1) * (read(height_bits) + 1)
