"""The permission to give one file its content, as a signed token: nothing is stored until bytes arrive."""

import time
import uuid
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict

from gateway.files.store import UNFINISHED_S, moment
from gateway.keys.tokens import Purpose, Tokens
from gateway.policy import Acl
from gateway.uploads.names import clean_name, suffix_of

WHOLE_S = 3600  # within which the content must begin to arrive


class Grant(BaseModel):
    """key: of the file. owner: the id of the API key in whose name; empty where the service is open. begun: Unix
    seconds. multipart: the content comes in parts, not whole. expires_in_s: from the end of the upload."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    owner: str
    begun: int
    multipart: bool
    file_name: str | None = None
    acl: Acl | None = None
    expires_in_s: int | None = None

    @property
    def id(self) -> str:
        return self.key.split("/")[1]

    @property
    def upload(self) -> str:
        """What the files store knows the parts by."""
        return f"{moment(self.begun)}/{self.id}"


class Grants:
    """Makes and reads grants. clock: Unix seconds."""

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._tokens, self._clock = tokens, clock

    def make(
        self,
        owner: str,
        content_type: str,
        file_name: str,
        multipart: bool,
        acl: Acl | None = None,
        expires_in_s: int | None = None,
    ) -> Grant:
        """content_type, file_name: as the client declares them."""
        return Grant(
            key=f"uploads/{uuid.uuid4()}/file.{suffix_of(content_type, file_name)}",
            owner=owner,
            begun=int(self._clock()),
            multipart=multipart,
            file_name=clean_name(file_name),
            acl=acl,
            expires_in_s=expires_in_s,
        )

    def token(self, grant: Grant) -> str:
        lifetime_s = UNFINISHED_S if grant.multipart else WHOLE_S
        payload = grant.model_dump(mode="json", exclude_defaults=True)
        return self._tokens.seal(payload, Purpose.UPLOAD, lifetime_s)

    def read(self, token: str) -> Grant | None:
        """None for a token that is not ours or has run out."""
        payload = self._tokens.unseal(token, Purpose.UPLOAD)
        return None if payload is None else Grant.model_validate(payload)
