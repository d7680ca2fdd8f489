"""Names of files: of what was drawn, never to be told from an id, and what a client's own name is good for."""

import hmac
import unicodedata
from collections.abc import Mapping
from urllib.parse import quote

from gateway.files.store import UPLOAD_SUFFIXES
from gateway.keys.tokens import derived, secret_of
from gateway.settings import FixedSettings
from gateway.work import ImageFormat

PURPOSE = "names of outputs"
_LENGTH = 32  # hexadecimal digits: 128 bits


class OutputNames:
    """Names pictures under a secret.

    A name is computed when a picture is stored and read from the request's row ever after, so a new secret makes no
    older file unknown.
    """

    def __init__(self, secret: bytes) -> None:
        self._key = derived(secret, PURPOSE)

    @classmethod
    def of(cls, settings: FixedSettings) -> "OutputNames":
        """Under the service's own secret."""
        return cls(secret_of(settings))

    def key(self, request_id: str, number: int, format: ImageFormat) -> str:
        """The key in the files store of a request's picture, counted from 0."""
        name = hmac.digest(self._key, f"{request_id}/{number}".encode(), "sha256").hex()[:_LENGTH]
        return f"outputs/{request_id}/{name}.{format}"


MAX_NAME = 100  # characters
_OTHER = "bin"
_SPELLINGS: Mapping[str, str] = {"jpg": "jpeg", "plain": "txt", "octet-stream": _OTHER}


def suffix_of(content_type: str, file_name: str) -> str:
    """One of our suffixes for what a client declares: it shows in the file's address and decides nothing."""
    declared = content_type.partition(";")[0].strip().rpartition("/")[2]
    for word in (file_name.rpartition(".")[2], declared):
        word = _SPELLINGS.get(word.lower(), word.lower())
        if word in UPLOAD_SUFFIXES and word != _OTHER:
            return word
    return _OTHER


def clean_name(file_name: str) -> str | None:
    """The last part of a client's name, without anything that a file system or a header could stumble over."""
    last = unicodedata.normalize("NFC", file_name).replace("\\", "/").rpartition("/")[2]
    kept = "".join(one for one in last if one.isprintable() and one not in '<>:"|?*%;')
    return kept.strip(" .")[-MAX_NAME:] or None


def disposition(kind: str, file_name: str) -> str:
    """A Content-Disposition header (RFC 6266): the name in ASCII, and in full where that is less."""
    plain = file_name.encode("ascii", "replace").decode().replace("\\", "_").replace('"', "_")
    full = "" if plain == file_name else f"; filename*=UTF-8''{quote(file_name, safe='')}"
    return f'{kind}; filename="{plain}"{full}'
