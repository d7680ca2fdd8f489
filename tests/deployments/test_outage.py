"""A bucket that is gone for a minute, under requests: all end well, none is drawn twice, the log stays short."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from deployments.postprocessor import Postprocessor
from gateway.endpoints import app_of
from gateway.files.names import OutputNames
from gateway.files.s3 import Bucket, S3Blobs
from gateway.files.store import FileStore
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings, OutputSettings
from gateway.work import Delivering, Event, Finished, Step, Work
from gateway.worker.dispatcher import DispatchLoop
from tests.deployments.fakes import no_models
from tests.gateway.fakes import FAST, work
from tests.gateway.files.s3_server import BUCKET, serving

REQUESTS = 22
OUTAGE_S = 60.0


class Drawing:
    """A runner that draws in no time and delivers as the graph does. drawn: how often each request was."""

    def __init__(self, postprocessor: Postprocessor) -> None:
        self._postprocessor = postprocessor
        self.drawn: dict[str, int] = {}

    async def run(self, work: Work, previews: bool = False) -> AsyncIterator[Event]:
        yield Step(1, 1)
        self.drawn[work.request_id] = self.drawn.get(work.request_id, 0) + 1
        yield Delivering()
        drawn = np.zeros((1, 64, 64, 3), np.uint8)
        given = work.request_id, work.delivery, work.base_url, drawn, [False], work.spec
        yield Finished(await self._postprocessor.deliver(*given), [False], {}, work.spec.prompt)


@pytest.mark.long
@pytest.mark.parametrize("hangs", [False, True])
async def test_requests_outlive_a_bucket_that_is_gone_for_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    # shorter than the outage: what is drawn must not be ended by it
    settings = GatewaySettings(data_dir=tmp_path, run_timeout_s=OUTAGE_S / 4, tick_s=0.05)
    ledger = await SqlLedger.open(settings.ledger_address)
    with serving() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        files = FileStore(S3Blobs(Bucket.at(f"s3://{BUCKET}/outage", server.endpoint_url)))
        names = OutputNames(b"s" * 32)
        runner = Drawing(Postprocessor(files, lambda: names, settings.delivery_patience_s, OutputSettings(), no_models))
        dispatching = DispatchLoop(ledger, runner, settings, "dispatcher", lambda: REQUESTS)
        ids = [f"0f8fad5b-d9cb-469f-a165-{number:012x}" for number in range(REQUESTS)]
        caplog.set_level(logging.INFO)
        server.hang() if hangs else await asyncio.to_thread(server.kill)
        running = asyncio.create_task(dispatching.run())
        for request_id in ids:
            await ledger.submit(work(request_id), app_of(FAST))
        begun = time.monotonic()
        await asyncio.sleep(OUTAGE_S)
        assert await ended(ledger, ids) == 0
        server.resume() if hangs else await asyncio.to_thread(server.start)
        async with asyncio.timeout(60):
            while await ended(ledger, ids) < REQUESTS:  # noqa: ASYNC110 (a row of the ledger)
                await asyncio.sleep(0.2)
        elapsed = time.monotonic() - begun
        for status in (await ledger.statuses(ids)).values():
            assert status.outcome is Outcome.OK, status
        assert runner.drawn == dict.fromkeys(ids, 1)
        assert 0 < len(caplog.records) < elapsed
        await dispatching.stop()
        await running
    await ledger.close()


async def ended(ledger: SqlLedger, ids: list[str]) -> int:
    statuses = await ledger.statuses(ids)
    return sum(status.state is State.DONE for status in statuses.values())
