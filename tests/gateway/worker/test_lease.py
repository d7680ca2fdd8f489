"""An owner's heartbeat on a real ledger."""

from collections.abc import Sequence

import pytest

from gateway.endpoints import app_of
from gateway.ledger.models import Claim, LeaseRenewal, LogBatch
from gateway.ledger.store import SqlLedger
from gateway.worker.lease import LeaseKeeper
from tests.gateway.fakes import FAST, work


async def claimed(ledger: SqlLedger, *names: str) -> list[Claim]:
    for name in names:
        await ledger.submit(work(name), app_of(FAST))
    return list(await ledger.claim("me", len(names), 30))


async def lines(ledger: SqlLedger, name: str) -> list[str]:
    return [entry.message for entry in await ledger.logs(name)]


async def test_what_was_said_of_all_requests_is_written_in_one_beat(ledger: SqlLedger) -> None:
    a, b = await claimed(ledger, "a", "b")
    leases = LeaseKeeper(ledger, "me", 30)
    for claim, message in [(a, "a1"), (b, "b1"), (a, "a2")]:
        leases.say(claim, "INFO", message)
    assert await lines(ledger, "a") == []
    assert (await leases.renew([a, b])).held == {"a": 1, "b": 1}
    assert (await lines(ledger, "a"), await lines(ledger, "b")) == (["a1", "a2"], ["b1"])
    await leases.renew([a, b])
    assert await lines(ledger, "a") == ["a1", "a2"]


async def test_what_a_failed_beat_did_not_write_the_next_one_does_in_order(ledger: SqlLedger) -> None:
    (claim,) = await claimed(ledger, "a")

    class Failing(SqlLedger):
        failures = 1

        async def heartbeat(self, owner: str, lease_s: float, reports: Sequence[LogBatch]) -> LeaseRenewal:
            if Failing.failures:
                Failing.failures -= 1
                leases.say(claim, "INFO", "meanwhile")
                raise OSError("disk")
            return await super().heartbeat(owner, lease_s, reports)

    leases = LeaseKeeper(Failing(ledger.database), "me", 30)
    leases.say(claim, "INFO", "before")
    with pytest.raises(OSError, match="disk"):
        await leases.renew([claim])
    leases.say(claim, "INFO", "after")
    await leases.renew([claim])
    assert await lines(ledger, "a") == ["before", "meanwhile", "after"]


async def test_last_words_are_handed_out_once(ledger: SqlLedger) -> None:
    a, b = await claimed(ledger, "a", "b")
    leases = LeaseKeeper(ledger, "me", 30)
    leases.say(a, "INFO", "a1")
    leases.say(b, "WARN", "b1")
    assert leases.drain(b) == [("WARN", "b1")]
    assert leases.drain(b) == []
    await leases.renew([a])
    assert (await lines(ledger, "a"), await lines(ledger, "b")) == (["a1"], [])


async def test_a_request_with_nothing_to_say_keeps_its_lease_and_one_that_is_not_held_does_not(
    ledger: SqlLedger,
) -> None:
    a, _ = await claimed(ledger, "a", "b")
    assert (await LeaseKeeper(ledger, "me", 30).renew([a])).held == {"a": 1}
