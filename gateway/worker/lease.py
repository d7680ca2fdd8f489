"""Leases: one owner keeps its own with a heartbeat, which also writes what it says and hears what was cancelled."""

from collections.abc import Iterable, Sequence

from gateway.ledger.models import Claim, LeaseRenewal, Ledger, LogBatch

Line = tuple[str, str]


class LeaseKeeper:
    """Gathers the log lines of all of an owner's requests, so that they cost one transaction a beat."""

    def __init__(self, ledger: Ledger, owner: str, lease_s: float) -> None:
        self._ledger, self._owner, self._lease_s = ledger, owner, lease_s
        self._waiting: dict[tuple[str, int], tuple[Claim, list[Line]]] = {}

    def say(self, claim: Claim, level: str, message: str) -> None:
        """Add a line to the log of a request; it is written at the next beat."""
        self._waiting.setdefault(_name(claim), (claim, []))[1].append((level, message))

    def said(self) -> Sequence[str]:
        """The requests of which something was said that is not written."""
        return [request_id for request_id, _ in self._waiting]

    async def renew(self, held: Iterable[Claim]) -> LeaseRenewal:
        """Extend the leases of `held`, write what was said. After a failure it is said again at the next beat."""
        taken, self._waiting = self._waiting, {}
        reports = [LogBatch(claim, tuple(taken.get(_name(claim), (claim, []))[1])) for claim in held]
        try:
            return await self._ledger.heartbeat(self._owner, self._lease_s, reports)
        except BaseException:
            for name, (claim, lines) in self._waiting.items():
                taken.setdefault(name, (claim, []))[1].extend(lines)
            self._waiting = taken
            raise

    def drain(self, claim: Claim) -> Sequence[Line]:
        """What was said of a request and is not written; it is the caller's to write."""
        _, lines = self._waiting.pop(_name(claim), (claim, []))
        return lines


def _name(claim: Claim) -> tuple[str, int]:
    return claim.work.request_id, claim.attempt
