"""Taking in what of a request needs no fetching: pictures from data URIs, and what has an address of our own files."""

import asyncio
import base64
import binascii
import re
from contextlib import suppress
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from gateway.errors import ModelError, StoreUnavailable, ValidationErrors, location
from gateway.files.base import Files
from gateway.images.codec import SUFFIXES, check_image
from gateway.images.fetch import too_large
from gateway.picture_sources import STORED, LocalFileResolver
from gateway.retries import shielded
from gateway.weights.sources import stored
from gateway.worker.reaper import delete_files
from pipelines.spec import Embedding, Lora, Spec

Weights = TypeVar("Weights", Lora, Embedding)

LONGEST_ADDRESS = 8192  # characters; what parses addresses remembers them, so megabytes must not get there
_DATA_URI = re.compile(r"data:(?P<type>[^,]*),", re.IGNORECASE)
_IN_BASE64 = re.compile(r";\s*base64\s*\Z", re.IGNORECASE)
_WHITE = b" \t\n\f\r\v"
_ADDRESS = re.compile(r"https?://[^/]", re.IGNORECASE)
_BAD_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


async def store_inputs(
    spec: Spec, request_id: str, files: Files, max_bytes: int, max_pixels: int, own: LocalFileResolver | None = None
) -> Spec:
    """`spec` with each picture that was inline stored under `inputs/<request_id>/` and named `stored:<key>`.

    So is a copy of each that was named by an address of ours, for the file may expire before the request is drawn. own:
    which files these may be. Other http(s) addresses stay, without the white space round them. max_bytes, max_pixels:
    of one picture. Raises ValidationErrors with every fault of every picture, and StoreUnavailable; then nothing has
    been stored.
    """
    faults: list[ModelError] = []
    contents: dict[str, tuple[bytes, str]] = {}
    sources: dict[int, str] = {}
    for place, picture in enumerate(spec.pictures):
        source, field = picture.source.strip(), picture.field
        try:
            if not _ADDRESS.match(source):
                content = await asyncio.to_thread(_inline, source, field, max_bytes)
            elif len(source) > LONGEST_ADDRESS:
                raise _too_long(field)
            elif own is not None and (own_key := own.key_of(source)) is not None:
                content = await own.read(own_key, max_bytes, field)
            else:
                if source != picture.source:
                    sources[place] = source
                continue
            _, _, content_type = await asyncio.to_thread(check_image, content, max_pixels, field)
        except ModelError as fault:
            faults.append(fault)
            continue
        key = f"inputs/{request_id}/{place}.{SUFFIXES[content_type]}"
        contents[key] = content, content_type
        sources[place] = STORED + key
    if faults:
        raise ValidationErrors(faults)
    stored: list[str] = []
    try:
        for key, (content, content_type) in contents.items():
            stored.append(key)  # before it is there: a put that fails, or whose caller leaves, may have written it
            # to its end also when the caller leaves: what a thread writes after the discarding would stay for good
            await shielded(files.put(key, content, content_type))
    except StoreUnavailable:
        doubtful = stored.pop()  # most likely not there, and so not worth a line of its own
        with suppress(StoreUnavailable):
            await shielded(files.delete(doubtful))
        await shielded(delete_files(stored, files))
        raise
    except BaseException:
        await shielded(delete_files(stored, files))
        raise
    return spec.with_sources(sources)


async def own_weights(spec: Spec, own: LocalFileResolver) -> Spec:
    """`spec` with each LoRA and embedding that has an address of ours named by its key instead, once the caller may
    read it.

    It stays where it is: it is large, and who draws says so where it has expired by then. Raises ValidationErrors.
    """
    faults: list[ModelError] = []

    async def named(weights: Weights) -> Weights:
        try:
            return weights.model_copy(update={"source": await _own_source(weights, own)})
        except ModelError as fault:
            faults.append(fault)
            return weights

    loras = tuple([await named(lora) for lora in spec.loras])
    embeddings = tuple([await named(embedding) for embedding in spec.embeddings])
    if faults:
        raise ValidationErrors(faults)
    return spec.model_copy(update={"loras": loras, "embeddings": embeddings})


async def _own_source(weights: Lora | Embedding, own: LocalFileResolver) -> str:
    source, field = weights.source, weights.field
    if source.startswith(STORED):  # a key is ours to name
        raise ModelError("feature_not_supported", "Weights of this name are not known here.", location(field))
    key = own.key_of(source) if len(source) <= LONGEST_ADDRESS else None
    return source if key is None else stored(key, (await own.stat(key, field)).etag)


def _too_long(field: str) -> ModelError:
    msg = f"The file could not be downloaded: its address has more than {LONGEST_ADDRESS} characters."
    return ModelError("file_download_error", msg, location(field))


def _inline(source: str, field: str, max_bytes: int) -> bytes:
    content = _decode(source, field, max_bytes)
    if len(content) > max_bytes:
        raise too_large(max_bytes, field)
    return content


def _decode(source: str, field: str, max_bytes: int) -> bytes:
    """The bytes of a data URI (RFC 2397). Its media type is the client's word and is not believed.

    Base64 is read forgivingly, as browsers do: with white space anywhere, such as ends of lines, and without padding.
    """
    head = _DATA_URI.match(source)
    if head is None:
        msg = "A picture is an http(s) address or a data URI."
        raise ModelError("file_download_error", msg, location(field))
    data = source[head.end() :]
    in_base64 = _IN_BASE64.search(head["type"])
    # A byte takes up to three characters in percent form, and four thirds of one in base64 (or four, percent-encoded).
    if len(data) > 4 * max_bytes + 4:
        raise too_large(max_bytes, field)
    try:
        raw = data.encode("ascii")
        if _BAD_PERCENT.search(raw):
            raise ValueError("a percent sign without its two digits")
        octets = unquote_to_bytes(raw) if b"%" in raw else raw
        return from_base64(octets) if in_base64 else octets
    except (ValueError, binascii.Error) as error:
        raise ModelError("image_load_error", "The data URI of the picture is broken.", location(field)) from error


def from_base64(octets: bytes) -> bytes:
    """As browsers read it: white space anywhere, padding or none. Raises ValueError."""
    digits = octets.translate(None, _WHITE).rstrip(b"=")
    return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
