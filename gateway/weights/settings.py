"""What an operator may set about the weights that clients name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.secrets import Reference, referred
from gateway.settings import MIB

_USUAL = re.compile(r"http://.*:80|https://.*:443")


def _as_sent(origin: str) -> str:
    if _USUAL.fullmatch(origin):
        raise ValueError("an origin is named without its scheme's usual port")
    return origin


Origin = Annotated[str, Field(pattern=r"^https?://[a-z0-9._-]+(:\d{1,5})?$"), AfterValidator(_as_sent)]


class WeightsSettings(BaseModel):
    """Durations in seconds, sizes in bytes.

    cache: the folder of what was fetched, on each node its own disk's; None for `weights` in the gateway's `data_dir`.
    cache_bytes: of its files together; the ones used last stay. max_bytes: of one file.
    hub: where names such as `owner/repo` lie. tokens: by origin (`https://huggingface.co`) a reference to what is sent
        to it as a bearer token: `env:NAME` or `file:/path`. Whoever may draw can draw with what it opens.
    timeout_s: for a whole fetch, below the gateway's `run_timeout_s`. grace_s, least_bytes_per_s: how far a file may
        fall behind that rate, and so how long its server may be silent. at_once: fetches of a replica, of one key at
        most half of them.
    remember_s: how long an address is taken to have what it had. After that its server is asked, by ETag where it has
        one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cache: Path | None = None
    cache_bytes: int = Field(20 * 1024 * MIB, gt=0)
    max_bytes: int = Field(1024 * MIB, gt=0)
    hub: Origin = "https://huggingface.co"
    tokens: Mapping[Origin, Reference] = Field(default_factory=dict)
    timeout_s: float = Field(300.0, gt=0)
    grace_s: float = Field(15.0, gt=0)
    least_bytes_per_s: float = Field(128 * 1024.0, gt=0)
    at_once: int = Field(8, gt=0)
    remember_s: float = Field(3600.0, ge=0)

    @model_validator(mode="after")
    def _holds_one_file(self) -> Self:
        if self.max_bytes > self.cache_bytes:
            raise ValueError("max_bytes is above cache_bytes: such a file would find no room")
        return self

    def read_tokens(self) -> dict[str, str]:
        """The tokens that are referred to. Raises ValueError, which names the reference, where there is none."""
        return {origin: _token(reference) for origin, reference in self.tokens.items()}


def _token(reference: str) -> str:
    token = referred(reference, "weights.tokens")
    if not token.isascii() or not token.isprintable():
        raise ValueError(f"weights.tokens: what {reference} holds is no token")
    return token
