"""A figure that a gate asks for."""

from dataclasses import dataclass

ROUNDING = 1e-9  # 0.93 - 0.1 is a little more than 0.83


@dataclass(frozen=True, slots=True)
class Metric:
    """What was reached, and what is wanted: at least that, or at most where `below` says so."""

    what: str
    reached: float
    wanted: float
    below: bool = False

    @property
    def met(self) -> bool:
        over = self.wanted - self.reached if self.below else self.reached - self.wanted
        return over > -ROUNDING

    def __str__(self) -> str:
        sign = "<=" if self.below else ">="
        return f"{self.what}: {self.reached:.3f} (wanted {sign} {self.wanted:.3f}{'' if self.met else ', MISSED'})"
