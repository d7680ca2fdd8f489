"""What the gateway is told of the model family that is drawn with."""

from collections.abc import Mapping
from dataclasses import dataclass

CHECKER = "safety_checker"  # the part without which pictures are not checked
EXPANDER = "expansion"  # the part without which prompts are not expanded


@dataclass(frozen=True, slots=True)
class FamilyState:
    """What a family has beside its checkpoint, by name.

    missing: what it lacks, each with the command that brings it. Clients are told all of it: no path of the server is
    in it. styles: names that requests may ask for besides those of the schemas.
    """

    name: str
    has: tuple[str, ...]
    missing: Mapping[str, str]
    styles: frozenset[str] = frozenset()

    @property
    def checks_pictures(self) -> bool:
        """Whether anything can say which pictures may not be shown."""
        return CHECKER not in self.missing
