"""Pictures of every size on loopback, sound and broken, and where webhooks come to."""

import io
import json
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

from PIL import Image

LARGE: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"4000.jpg": (4000, 3000), "5000.jpg": (5000, 5000), "4200.webp": (4200, 2800), "6000.png": (6000, 4000)}
)
SMALL: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"small.png": (320, 256), "small.jpg": (512, 384), "portrait.webp": (300, 420)}
)
MISSING, DAMAGED, HUGE, MASK = "missing.png", "damaged.jpg", "huge.png", "mask.png"
_TYPES: Mapping[str, str] = MappingProxyType({"jpg": "JPEG", "png": "PNG", "webp": "WEBP"})


class Server:
    """heard: how often each request was told of. pictures: the files by name."""

    def __init__(self, pictures: Mapping[str, bytes]) -> None:
        self.heard: Counter[str] = Counter()
        self.pictures = pictures
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def hook(self) -> str:
        """The address of webhooks."""
        return self.url("hook")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{name}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        heard, pictures = self.heard, self.pictures

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = pictures.get(self.path.lstrip("/"))
                self._answer(404 if content is None else 200, content or b"no such picture")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                heard[body["request_id"]] += 1
                self._answer(200, b"")

            def _answer(self, status: int, content: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *_: object) -> None:
                """Nothing is told of a call."""

        return Handler


@contextmanager
def serving() -> Iterator[Server]:
    server = Server(_made())
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _made() -> dict[str, bytes]:
    files = {name: _picture(name, size) for name, size in {**SMALL, **LARGE}.items()}
    files[DAMAGED] = files["small.jpg"][: len(files["small.jpg"]) // 2]
    files[HUGE] = _declared(50_000, 50_000)
    mask = Image.new("L", SMALL["small.png"])
    mask.paste(255, (100, 60, 220, 180))
    files[MASK] = _file(mask, "PNG")
    return files


def _picture(name: str, size: tuple[int, int]) -> bytes:
    """A blurred field of colours, which is a small file for its size."""
    noise = Image.merge("RGB", [Image.effect_noise((24, 24), 90) for _ in range(3)])
    return _file(noise.resize(size, Image.Resampling.BICUBIC), _TYPES[name.rsplit(".", 1)[1]])


def _file(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()


def _declared(width: int, height: int) -> bytes:
    """A PNG whose header tells of more than there is."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0" * 64
