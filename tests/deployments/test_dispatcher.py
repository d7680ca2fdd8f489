"""The Dispatcher: that it is healthy, that its limits change, and which of two does what is to be done."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import update

from deployments import dispatcher as dispatcher_module
from deployments.dispatcher import Dispatcher
from gateway.files.backends import LocalFiles
from gateway.files.upload_quota import UploadAccount
from gateway.ledger.store import SqlLedger, utc_now
from gateway.ledger.tables import leader
from gateway.settings import GatewaySettings
from gateway.worker.capacity import Report, Room
from tests.gateway.fakes import FAST, FakeRunner, until, work


async def test_a_dispatcher_gives_back_the_places_of_uploads_that_are_gone(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, sweep_s=0.02)
    ledger = await SqlLedger.open(settings.ledger_address)
    account = UploadAccount(ledger.database, settings)
    file = f"uploads/{uuid4()}/file.bin"
    await account.take_file(file, "", 1, expires_at=0.0)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)

    async def given_back() -> bool:
        return not await account.counts(file)

    await until(given_back)
    stopping = dispatcher.__del__()
    assert stopping is not None
    await stopping


async def test_a_dispatcher_is_healthy_until_its_loops_end(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    ledger = await SqlLedger.open(settings.ledger_address)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)
    dispatcher.check_health()
    assert not (await dispatcher.report("one", 16, ("base",))).leads  # not yet
    await dispatcher.leading.look()
    assert (await dispatcher.report("one", 16, ("base",))).leads
    assert dispatcher._places.capacity() == settings.look_ahead + 16 / 2  # one picture, guided, has two rows
    assert dispatcher._replicas.living() == {"one": Report(16, ("base",))}
    assert (await dispatcher.room()).answer == Room(replicas=1, capacity=16)
    stopping = dispatcher.__del__()
    assert stopping is not None
    await stopping
    with pytest.raises(RuntimeError, match="has ended"):
        dispatcher.check_health()
    assert not (await dispatcher.room()).leads


async def test_of_two_dispatchers_one_has_what_waits_drawn_and_the_other_one_when_it_stops(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, tick_s=0.05)
    both, runners = [Dispatcher.__new__(Dispatcher) for _ in range(2)], [FakeRunner(), FakeRunner()]
    client = await SqlLedger.open(settings.ledger_address)

    async def answered(name: str) -> bool:
        return await client.answer(name, FAST) is not None

    for one, runner in zip(both, runners, strict=True):
        ledger = await SqlLedger.open(settings.ledger_address)
        one._start(ledger, None, LocalFiles(tmp_path), lambda _, runner=runner: runner, settings)  # type: ignore[misc]
        await one.leading.look()
    assert [(await one.wake()).leads for one in both] == [True, False]
    assert (await both[1].poll("gateway", 1, {})).leader == both[0].leading.leader
    assert await both[1].record_autoscaling_stats() == {}
    await client.submit(work("a"), FAST)
    await until(partial(answered, "a"))
    assert not (await both[1].drain()).leads
    await client.submit(work("b"), FAST)
    await until(partial(answered, "b"))
    await both[0].stop()
    await client.submit(work("c"), FAST)
    await until(partial(answered, "c"))
    await both[1].stop()
    assert [runner.ids for runner in runners] == [["a", "b"], ["c"]]
    await client.close()


async def test_who_has_just_begun_to_lead_publishes_nothing_until_it_has_heard_of_replicas_or_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    one = Dispatcher.__new__(Dispatcher)
    one._start(
        await SqlLedger.open(settings.ledger_address), None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings
    )
    await one.leading.look()
    assert await one.record_autoscaling_stats() == {}
    with monkeypatch.context() as later:
        later.setattr(dispatcher_module, "SETTLING_S", 0.0)
        assert (await one.record_autoscaling_stats())["living"] == 0
    await one.report("one", 16, ())
    assert (await one.record_autoscaling_stats())["living"] == 1
    await one.stop()


async def test_a_dispatcher_that_has_lost_the_lead_fails_its_health_check(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    dispatcher = Dispatcher.__new__(Dispatcher)
    ledger = await SqlLedger.open(settings.ledger_address)
    dispatcher._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)
    await dispatcher.leading.look()
    dispatcher.check_health()
    taken = update(leader).values(name="another", until=utc_now() + timedelta(seconds=60))
    await ledger.database.write(lambda connection: connection.execute(taken))
    await dispatcher.leading.look()
    await asyncio.wait_for(dispatcher._loops[0], 10)
    with pytest.raises(RuntimeError, match="the loop of leading has ended"):
        dispatcher.check_health()
    assert (await dispatcher.room()).leader == "another"
    await dispatcher.stop()


async def test_the_limits_of_a_dispatcher_change_while_it_runs(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    ledger = await SqlLedger.open(settings.ledger_address)
    dispatcher = Dispatcher.__new__(Dispatcher)
    dispatcher._start(ledger, None, LocalFiles(tmp_path), lambda _: FakeRunner(), settings)
    await dispatcher.reconfigure({"look_ahead": 7, "stop_grace_s": 0.0})
    assert dispatcher._places.capacity() == 7
    assert settings.stop_grace_s == 0
    with pytest.raises(ValueError, match="user_config of Dispatcher is wrong: look_ahed"):
        await dispatcher.reconfigure({"look_ahed": 7})
    dispatcher.check_health()
    await dispatcher.reconfigure({"stop_grace_s": 20})
    with pytest.raises(ValueError, match="graceful_shutdown_timeout_s is 20: set it above stop_grace_s"):
        dispatcher.check_health()
    await dispatcher.reconfigure({})
    stopping = dispatcher.__del__()
    assert stopping is not None
    await stopping
