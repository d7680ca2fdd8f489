"""Secrets of the settings by reference: `env:NAME` or `file:PATH`, read where they are used and written nowhere."""

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

_REFERENCE = re.compile(r"env:\w+|file:.+")

Reference = Annotated[str, Field(pattern=rf"^({_REFERENCE.pattern})$")]


def is_reference(text: str) -> bool:
    """Whether `text` says where a secret is, and is none itself."""
    return _REFERENCE.fullmatch(text) is not None


def referred(reference: str, field: str) -> str:
    """What is at a reference, without the blanks around it. Raises ValueError, which names both, where nothing is."""
    kind, _, place = reference.partition(":")
    try:
        found = os.environ[place] if kind == "env" else Path(place).read_text(encoding="utf-8")
    except (KeyError, OSError, UnicodeError) as fault:
        raise ValueError(f"{field}: there is nothing to read at {reference}") from fault
    if not (found := found.strip()):
        raise ValueError(f"{field}: there is nothing at {reference}")
    return found


def in_clear(secret: str, field: str) -> str:
    """A secret that a setting gives, or refers to."""
    return referred(secret, field) if is_reference(secret) else secret
