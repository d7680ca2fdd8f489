"""Whether a key may have one request more, and counting what it had."""

from gateway.keys.base import Caller, Keys
from gateway.keys.limits import KeyUse, refusal
from gateway.ledger.base import Ledger
from pipelines.spec import Spec

UNKNOWN_SIZE = 1024 * 1024  # pixels counted for a picture whose size its start image says, which is fetched later


class Admission:
    """Holds callers to the limits of their keys. A service without keys has none.

    The length of the queue is the ledger's to bound, in the transaction that adds to it. A day's budget may be passed
    by what several gateways admit in the same moment.
    """

    def __init__(self, ledger: Ledger, keys: Keys | None) -> None:
        self._ledger, self._keys = ledger, keys

    async def admit(self, caller: Caller, spec: Spec, *, waits: bool) -> None:
        """Raise PlatformError (403 for a spent budget, 429 for too much at once) for a request that is too much.

        waits: it goes to the queue; False for a sync run.
        """
        if self._keys is None or not caller.key:
            return
        _, spent = await self._keys.used(caller.key)
        running = 0 if waits else (await self._ledger.load(caller.key)).held
        refused = refusal(caller.limits, KeyUse(running=running, pixel_steps=spent), pixel_steps(spec), waits)
        if refused is not None:
            raise refused

    async def charge(self, caller: Caller, spec: Spec) -> None:
        """Count a request that was accepted; it counts whatever becomes of it."""
        if self._keys is not None and caller.key:
            await self._keys.charge(caller.key, pixel_steps(spec))


def pixel_steps(spec: Spec) -> int:
    """Width x height x steps, summed over the pictures."""
    pixels = UNKNOWN_SIZE if spec.size is None else spec.size.width * spec.size.height
    return pixels * spec.steps * len(spec.seeds)
