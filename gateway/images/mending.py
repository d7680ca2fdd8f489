"""Pictures whose pixels are whole though something beside them is not: what to give their decoders instead."""

import re
import zlib
from collections.abc import Iterator

_PNG_BEGIN = 8  # bytes of the signature
_MOST_TEXT = 1024 * 1024  # bytes of a PNG's texts together, unpacked; their decoder refuses more of one
_JPEG_END = b"\xff\xd9"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = 0xC2
_SCAN = 0xDA
# Bytes that no decoder takes for a mark, and takes for pixels where some are missing.
_JPEG_MARK = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within coded pixels are zeros and restarts alone
_OTHER_END = bytes((37 * each + 11) % 255 for each in range(256)) + _JPEG_END


def plain_png(content: bytes) -> bytes:
    """A PNG without what its decoder would stumble over beside the pixels: its colour profile, and texts that are large
    or broken. Texts that are neither stay, for they may say which side is up.
    """
    kept, begin, text = [], 0, 0
    for start, end in _chunks(content):
        kind, data = content[start + 4 : start + 8], content[start + 8 : end - 4]
        size = _MOST_TEXT + 1 if kind == b"iCCP" else _text_size(kind, data)
        if text + size <= _MOST_TEXT:
            text += size
            continue
        kept.append(content[begin:start])
        begin = end
    return b"".join([*kept, content[begin:]]) if kept else content


def completed_jpeg(content: bytes) -> tuple[bytes, bytes]:
    """A JPEG with an end mark, and the same with other bytes before it.

    Where only the mark is missing both are the same picture; where pixels are missing the other bytes become some.
    Raises ValueError or IndexError where whole scans are missing, of which no other bytes would become any.
    """
    if not _has_its_scans(content):
        raise ValueError("scans are missing")
    begun = content.rstrip(b"\xff")
    return begun + _JPEG_END, begun + _OTHER_END


def _has_its_scans(content: bytes) -> bool:
    """Whether the scans that have begun say all there is of every component: each coefficient to its last bit."""
    progressive, unsaid = False, dict[int, list[int]]()
    place = 2
    while (mark := _JPEG_MARK.search(content, place)) is not None:
        kind, place = content[mark.end() - 1], mark.end()
        if kind in (0x01, 0xD8):  # without a length
            continue
        length = int.from_bytes(content[place : place + 2], "big")
        data = content[place + 2 : place + length]
        place += length
        if kind in _JPEG_FRAMES:
            progressive = kind == _PROGRESSIVE
            unsaid = {data[6 + 3 * each]: [1] * 64 for each in range(data[5])}
        elif kind == _SCAN:
            named = data[1 : 1 + 2 * data[0] : 2]
            first, last, bits = data[-3:] if progressive else (0, 63, 0)
            for component in named:
                unsaid[component][first : last + 1] = [bits & 15] * (last + 1 - first)
        elif kind == _JPEG_END[1]:
            break
    return bool(unsaid) and not any(map(any, unsaid.values()))


def _chunks(content: bytes) -> Iterator[tuple[int, int]]:
    """Where the chunks of a PNG begin and end that could be skipped; the first that is cut off ends it."""
    start = _PNG_BEGIN
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if end > len(content):
            return
        if content[start + 4 : start + 8] in (b"iCCP", b"tEXt", b"zTXt", b"iTXt"):
            yield start, end
        start = end


def _text_size(kind: bytes, data: bytes) -> int:
    """Bytes of a text, unpacked: more than are kept where it cannot be unpacked."""
    rest = data.partition(b"\0")[2]
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return len(data)
    if kind == b"iTXt":
        method, packed = rest[1:2], rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        method, packed = rest[:1], rest[1:]
    return _unpacked(packed) if method == b"\0" else _MOST_TEXT + 1


def _unpacked(packed: bytes) -> int:
    try:
        return len(zlib.decompressobj().decompress(packed, _MOST_TEXT + 1))
    except zlib.error:
        return _MOST_TEXT + 1
