"""What a client's word for weights that are not here means: an address, a file of a hub, an upload of ours."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from gateway.picture_sources import STORED

Kind = Literal["LoRA", "embedding"]
"""What the weights are for, as messages call it."""

SUFFIX = ".safetensors"
FORMS = (
    "an http(s) address, a hub's name (owner/repo or owner/repo/path/file.safetensors), the address of an upload, "
    "or the name of a file that this service has"
)

_HTTP = re.compile(r"https?://[^/]", re.IGNORECASE)
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}")
_BLOB = re.compile(r"^(/[^/]+/[^/]+)/blob/")
_MODELS = re.compile(r"^/models/\d+(/[^/]*)?/?$")
_USUAL_HUB = "huggingface.co"
_CIVITAI = frozenset({"civitai.com", "www.civitai.com"})


@dataclass(frozen=True, slots=True)
class Address:
    """An http(s) address to fetch."""

    url: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of the hub, of which one file has to be chosen. name: `owner/repo`."""

    name: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of the files store. etag: names its content."""

    key: str
    etag: str


Source = Address | Repository | Upload


def source_of(word: str, hub: str) -> Source | None:
    """What `word`, no name of a file that is here, means; None for what is none of `FORMS` otherwise.

    hub: scheme and host of the usual one.
    """
    if word.startswith(STORED):
        key, _, etag = word.removeprefix(STORED).partition("#")
        return Upload(key, etag)
    if _HTTP.match(word):
        return _by_address(word, hub)
    parts = word.split("/")
    if not all(parts) or {".", ".."} & {*parts} or not word.isprintable() or any(each in word for each in "\\:"):
        return None
    if len(parts) < 2 or not all(map(_SEGMENT.fullmatch, parts[:2])):
        return None
    if len(parts) == 2:
        return Repository(word)
    return Address(hub_address(hub, "/".join(parts[:2]), "/".join(parts[2:]))) if word.endswith(SUFFIX) else None


def unknown(word: str, kind: Kind, hub: str) -> str | None:
    """Why a client's word can mean no weights that are not here; None where they have to be looked for."""
    if not word.startswith(STORED) and source_of(word, hub) is not None:
        return None
    return not_known(kind)


def not_known(kind: Kind) -> str:
    """The sentence for a word that means none."""
    return f"This {kind} is not one that is known here. It is named by {FORMS}."


def stored(key: str, etag: str) -> str:
    """The word for a file of the files store, which is ours to make: of a client it is refused."""
    return f"{STORED}{key}#{etag}"


def hub_address(hub: str, repository: str, path: str) -> str:
    """Where a hub serves a file of a repository."""
    return f"{hub}/{repository}/resolve/main/{quote(path)}"


def host_of(url: str) -> str:
    """The host in an address, to be shown: neither path nor query, which may hold secrets."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _by_address(url: str, hub: str) -> Source | None:
    """Pages of the hubs are spelt as what they show, where that is one file."""
    try:
        place = urlsplit(url)
        host = (place.hostname or "").lower()
    except ValueError:
        return None
    if host in (_USUAL_HUB, host_of(hub)):
        path = _BLOB.sub(r"\1/resolve/", place.path)
        names = path.strip("/").removesuffix("/tree/main")
        if host == host_of(hub) and names.count("/") == 1 and all(map(_SEGMENT.fullmatch, names.split("/"))):
            return Repository(names)
        place = place._replace(path=path)
    elif host in _CIVITAI and _MODELS.match(place.path):
        asked = parse_qs(place.query)
        version = asked.pop("modelVersionId", [""])[0]
        if version.isdecimal():
            place = place._replace(path=f"/api/download/models/{version}", query=urlencode(asked, doseq=True))
    return Address(place._replace(fragment="").geturl())
