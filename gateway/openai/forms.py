"""The form of an edit: fields as JSON would have them, and the files beside them."""

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from gateway.errors import ModelError, PlatformError, ValidationErrors
from gateway.http.request_body import chunks

MULTIPART = "multipart/form-data"
IMAGE, MASK = "image", "mask"
MOST_FILES, MOST_FIELDS = 17, 200  # as many images as OpenAI takes, and a mask


@dataclass(frozen=True, slots=True)
class EditForm:
    """fields: texts, and lists of texts for names that end in brackets."""

    fields: Mapping[str, Any]
    images: tuple[bytes, ...]
    mask: bytes | None


class _InMemory(MultiPartParser):
    # the whole body has a cap, and a file on the disk would be read again at once
    spool_max_size = 2**31 - 1


async def read_form(request: Request, max_bytes: int) -> EditForm:
    """Raises PlatformError as `chunks` does, and 400 for what is no such form; ValidationErrors for its files."""
    declared = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if declared != MULTIPART:
        raise PlatformError("bad_request", f"The body of an edit is a form: send it as {MULTIPART}, images as files.")
    try:
        async with aclosing(chunks(request, max_bytes)) as pieces:
            parser = _InMemory(
                request.headers, pieces, max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=max_bytes
            )
            form = await parser.parse()
    except MultiPartException as fault:
        raise PlatformError("bad_request", f"The body is not a form that can be read. {fault.message}") from None
    fields: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {IMAGE: [], MASK: []}
    try:
        for sent, value in form.multi_items():
            name = sent.removesuffix("[]")
            if isinstance(value, UploadFile):
                if name not in files:
                    raise _refused(name, "There is no such file; the files of an edit are image and mask")
                files[name].append(await value.read())
            elif name in files:
                raise _refused(name, "It is a file; send it as one, with a name of its own")
            elif name in fields and not (sent.endswith("[]") and isinstance(fields[name], list)):
                raise _refused(name, "It is there twice; a list has its name with brackets each time")
            elif sent.endswith("[]"):
                fields.setdefault(name, []).append(value)
            else:
                fields[name] = value
    finally:
        await form.close()
    if not files[IMAGE]:
        raise _refused(IMAGE, "Field required", "missing")
    if len(files[MASK]) > 1:
        raise _refused(MASK, "There is one at most")
    return EditForm(fields, tuple(files[IMAGE]), next(iter(files[MASK]), None))


def _refused(name: str, why: str, type: str = "value_error") -> ValidationErrors:
    return ValidationErrors([ModelError(type, why, (name[:100],))])
