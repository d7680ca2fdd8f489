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
    """What may be fetched, from where and how. Durations in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    cache: Path | None = None
    """folder of what was fetched, on each node its own disk's; none is `weights` in `data_dir`"""
    cache_bytes: int = Field(20 * 1024 * MIB, gt=0)
    """of its files together (of their addresses 10,000 are remembered); those used longest ago leave for new ones. What
    a request may still draw with (found within `run_timeout_s` and a minute) stays: where all is in use, a request for
    more waits its turn as at any fault of ours. What is just arriving comes on top, up to `at_once` times
    `max_bytes`"""
    max_bytes: int = Field(1024 * MIB, gt=0)
    """of one file"""
    hub: Origin = "https://huggingface.co"
    """where names such as `owner/repo` lie; a public address as those of clients"""
    tokens: Mapping[Origin, Reference] = Field(default_factory=dict)
    """by origin, such as `https://huggingface.co` or `https://civitai.com`, without a usual port, where its token is:
    `env:NAME` or `file:/path`, on the nodes of the Preprocessor. Sent to that origin alone, never where it redirects
    to. Whoever may draw can then draw with what the token opens"""
    timeout_s: float = Field(300.0, gt=0)
    """for a whole fetch with its redirects; below `run_timeout_s`, which goes on meanwhile, or the service does not
    start"""
    grace_s: float = Field(15.0, gt=0)
    """how far a file may fall behind `least_bytes_per_s` while it arrives, and so how long its server may be silent.
    One that was is not asked by this replica for 20 seconds, nor waited for, unless it answers others"""
    least_bytes_per_s: float = Field(128 * 1024.0, gt=0)
    """the rate that a file is held to"""
    at_once: int = Field(8, gt=0)
    """fetches of a replica of the Preprocessor, of one key at most half of them; others wait in the order in which they
    came"""
    remember_s: float = Field(3600.0, ge=0)
    """how long an address is taken to have what it had; then its server is asked, and where that is away, what it had
    is used"""

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
