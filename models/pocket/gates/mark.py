"""A figure that a gate asks for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """What was reached, and what is wanted: at least that, or at most where `below` says so."""

    what: str
    reached: float
    wanted: float
    below: bool = False

    @property
    def met(self) -> bool:
        return self.reached <= self.wanted if self.below else self.reached >= self.wanted

    def __str__(self) -> str:
        sign = "<=" if self.below else ">="
        return f"{self.what}: {self.reached:.3f} (wanted {sign} {self.wanted:.3f}{'' if self.met else ', MISSED'})"
