"""Which of the weights that were drawn with are still at hand, by the names that whoever routes requests gives them.

Free of torch and pydantic: read by the gateway, and by the engine where the service is not installed.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

REMEMBERED = 256


class Weights(NamedTuple):
    """Names weights as clients do, since whoever routes has no files.

    base: what a checkpoint becomes by the LoRAs of a performance mode and an inpaint patch; empty for the family's own,
    which every replica has. loras: the others, drawn with on top of it, by a digest, for addresses may hold secrets;
    empty for none.
    """

    base: str = ""
    loras: str = ""


class AtHand:
    """May be used by any thread."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Weights, tuple[Hashable, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, weights: Weights, keys: Sequence[Hashable]) -> None:
        """A drawing with them takes what is kept under these keys."""
        with self._lock:
            self._keys[weights] = tuple(keys)
            self._keys.move_to_end(weights)
            if len(self._keys) > REMEMBERED:
                self._keys.popitem(last=False)

    def among(self, kept: frozenset[Hashable], most: int) -> tuple[Weights, ...]:
        """Those of which all is still kept, the ones noted last at the end."""
        with self._lock:
            return tuple(weights for weights, keys in self._keys.items() if kept.issuperset(keys))[-most:]
