"""What a running job tells as it goes, which goes on as it is to whoever waits for the request.

Apart from the other events, which hold arrays: the gateway knows these two alone.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """`step` of `steps` sampling steps are done, counted over all pictures of the job; 0 means that drawing began."""

    step: int
    steps: int


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence about what was made of a job's inputs or weights, for whoever asked."""

    text: str
    level: Literal["INFO", "WARNING"] = "WARNING"
