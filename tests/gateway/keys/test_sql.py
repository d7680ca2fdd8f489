"""A key counts with its own secret, while it lasts, and its secret is nowhere at rest."""

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.keys.base import Caller, KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.gateway.keys.conftest import Clock

RUN = {Scope.RUN}
FREE = KeyLimits()
DAY = timedelta(days=1)


async def test_a_key_counts_with_its_secret(keys: SqlKeys) -> None:
    limits = KeyLimits(concurrency=2, queue_length=50, pixel_steps=10**12)
    issued = await keys.create("app", {Scope.RUN, Scope.STORAGE}, limits)
    found = await keys.check(issued.credentials)
    assert found == issued.key
    assert (found.limits, found.scopes, found.name) == (limits, {Scope.RUN, Scope.STORAGE}, "app")
    assert await keys.find(issued.key.id) == issued.key


async def test_nothing_else_counts(keys: SqlKeys) -> None:
    one, two = [await keys.create(name, RUN, FREE) for name in ("one", "two")]
    key_id, secret = one.credentials.split(":")
    wrong = [
        f"{key_id}:{two.credentials.split(':')[1]}",
        f"{key_id}:{secret[:-1]}",
        f"{key_id}:{secret}x",
        f"{key_id}:",
        f"{'0' * 16}:{secret}",
        f"%:{secret}",
        f"{key_id.upper()}x:{secret}",
        f"{key_id}:{hashlib.sha256(secret.encode()).hexdigest()}",
        f"{key_id}:{'0' * 64}",
        key_id,
        secret,
        f"{one.credentials}\n",
        f"{key_id}\0:{secret}",
        "' or 1=1 --:x",
        "",
    ]
    assert [await keys.check(credentials) for credentials in wrong] == [None] * len(wrong)


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_the_secret_is_not_at_rest(keys: SqlKeys, tmp_path: Path) -> None:
    issued = await keys.create("app", RUN, FREE)
    secret = issued.credentials.split(":")[1]
    stored = everything_in(tmp_path)
    assert secret.encode() not in stored
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in stored
    assert secret not in repr(issued)


async def test_a_key_ends_at_its_time(keys: SqlKeys, clock: Clock) -> None:
    issued = await keys.create("app", RUN, FREE, clock() + DAY)
    clock.pass_by(DAY - timedelta(seconds=1))
    assert await keys.check(issued.credentials)
    clock.pass_by(timedelta(seconds=1))
    assert await keys.check(issued.credentials) is None
    assert await keys.find(issued.key.id) is None


async def test_a_revoked_key_is_refused_at_once_and_stays_in_the_list(keys: SqlKeys, clock: Clock) -> None:
    issued = await keys.create("app", RUN, FREE)
    assert await keys.revoke(issued.key.id)
    assert await keys.check(issued.credentials) is None
    assert await keys.find(issued.key.id) is None
    assert not await keys.revoke(issued.key.id)
    assert not await keys.revoke("unknown")
    assert [key.revoked_at for key in await keys.all()] == [clock()]


async def test_both_secrets_count_while_a_rotation_overlaps(keys: SqlKeys, clock: Clock) -> None:
    old = await keys.create("app", RUN, FREE)
    new = await keys.rotate(old.key.id, DAY)
    assert new is not None
    assert new.key == old.key  # what belongs to the key stays its own
    assert [await keys.check(each.credentials) for each in (old, new)] == [old.key, old.key]
    clock.pass_by(DAY)
    assert [await keys.check(each.credentials) for each in (old, new)] == [None, old.key]


async def test_a_second_rotation_ends_the_first_secret(keys: SqlKeys) -> None:
    first = await keys.create("app", RUN, FREE)
    await keys.rotate(first.key.id, DAY)
    await keys.rotate(first.key.id, DAY)
    assert await keys.check(first.credentials) is None


async def test_what_does_not_count_is_not_rotated(keys: SqlKeys) -> None:
    issued = await keys.create("app", RUN, FREE)
    await keys.revoke(issued.key.id)
    assert await keys.rotate(issued.key.id, DAY) is None
    assert await keys.rotate("unknown", DAY) is None


async def test_use_is_counted_by_key_and_day(keys: SqlKeys, clock: Clock) -> None:
    one, two = [(await keys.create(name, RUN, FREE)).key.id for name in ("one", "two")]
    await asyncio.gather(*(keys.reserve(one, 10**10) for _ in range(20)))
    await keys.reserve(two, 5)
    assert [await keys.used(key) for key in (one, two)] == [(20, 20 * 10**10), (1, 5)]
    clock.pass_by(DAY)
    assert await keys.used(one) == (0, 0)


async def test_charges_at_once_stay_within_the_budget_and_can_be_given_back(keys: SqlKeys) -> None:
    key = (await keys.create("app", RUN, FREE)).key.id
    done = await asyncio.gather(*(keys.reserve(key, 30, 100) for _ in range(10)))
    assert sorted(done) == [False] * 7 + [True] * 3
    assert await keys.used(key) == (3, 90)
    assert not await keys.reserve(key, 11, 100)
    assert await keys.reserve(key, 10, 100)
    await keys.refund(key, 30)
    assert await keys.used(key) == (3, 70)
    assert not await keys.reserve("another", 101, 100)
    assert await keys.used("another") == (0, 0)


@pytest.mark.parametrize(("scopes", "may"), [({Scope.RUN}, [True, False, False]), ({Scope.ADMIN}, [True] * 3)])
async def test_an_admin_may_do_all(keys: SqlKeys, scopes: set[Scope], may: list[bool]) -> None:
    caller = Caller("k", frozenset(scopes))
    assert [caller.may(scope) for scope in (Scope.RUN, Scope.STORAGE, Scope.ADMIN)] == may
