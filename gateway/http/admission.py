"""Counting what a key asks for, up to its budget."""

from gateway.keys.base import Caller, Keys
from gateway.keys.limits import spent
from pipelines.spec import Spec

UNKNOWN_SIZE = 1024 * 1024  # pixels counted for a picture whose size its start image says, which is fetched later


class Admission:
    """Holds callers to the daily budget of their keys. A service without keys has none.

    How many of a key may wait or run is the ledger's to bound, in the transaction that adds to them.
    """

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    async def charge(self, caller: Caller, spec: Spec) -> None:
        """Count a request that is about to be accepted; it counts whatever becomes of it then.

        Raises PlatformError (403) where the budget does not reach. Of requests at once none counts past it.
        """
        if self._keys is None or not caller.key:
            return
        budget, asked = caller.limits.pixel_steps, pixel_steps(spec)
        if not await self._keys.charge(caller.key, asked, budget) and budget is not None:
            _, used = await self._keys.used(caller.key)
            raise spent(budget, used, asked)

    async def give_back(self, caller: Caller, spec: Spec) -> None:
        """Take back the charge of a request that was not accepted after all."""
        if self._keys is not None and caller.key:
            await self._keys.give_back(caller.key, pixel_steps(spec))


def pixel_steps(spec: Spec) -> int:
    """Width x height x steps, summed over the pictures; enlarging one without a step counts as one.

    Of a canvas the part that is drawn counts, which is about that of an unknown size, whatever the spec says.
    """
    pixels = UNKNOWN_SIZE if spec.size is None else spec.size.width * spec.size.height
    if spec.canvas is not None:
        pixels = max(pixels, UNKNOWN_SIZE)  # where nothing of it is marked, the size of the spec is drawn
    return pixels * max(spec.steps, 1) * len(spec.seeds)
