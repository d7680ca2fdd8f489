"""The files store as its callers see it."""

from dataclasses import dataclass
from typing import Protocol

FILES = "/files/"  # the path under which the gateway serves them, before the key


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of the store. content_type is what was sniffed when it was put, never a client's word."""

    key: str
    content: bytes
    content_type: str


class Files(Protocol):
    """Media by key.

    Keys are made by us: `outputs/<request id>/<name>` is public, `inputs/<request id>/<name>` is not.
    """

    async def put(self, key: str, content: bytes, content_type: str) -> None:
        """Store durably (written aside, then moved into place). A second attempt at a request replaces its files."""

    async def get(self, key: str) -> Stored | None:
        """The file, or None when there is none. Raises ValueError for a key that is not of our form."""

    async def delete(self, key: str) -> None:
        """Remove; a missing key is not an error."""
