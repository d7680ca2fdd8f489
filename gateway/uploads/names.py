"""What a client's name and type for its file are good for: a suffix of ours, and the name of a download."""

import unicodedata
from collections.abc import Mapping
from urllib.parse import quote

from gateway.files.store import UPLOAD_SUFFIXES

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
