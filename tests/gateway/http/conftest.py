"""The app on a real ledger and a fake runner: in memory, and behind a real server on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
import uvicorn

from gateway.app import Parts, create_app
from gateway.endpoints import app_of
from gateway.files.backends import LocalFiles
from gateway.files.upload_quota import UploadAccount
from gateway.keys.sql import SqlKeys
from gateway.ledger.figures import SqlFigures
from gateway.ledger.models import State
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.worker.dispatcher import DispatchLoop
from tests.gateway.fakes import FAST, FakeRunner, LocalDispatcher, until
from tests.gateway.http.storing import Uploader

APP = app_of(FAST)

Dispatch = Callable[[], Any]
Reach = Callable[[str, State], Awaitable[None]]


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def dispatcher() -> LocalDispatcher:
    return LocalDispatcher()


@pytest.fixture
def parts(settings: GatewaySettings, ledger: SqlLedger, dispatcher: LocalDispatcher) -> Parts:
    return Parts(
        settings,
        ledger,
        LocalFiles(settings.data_dir / "files"),
        dispatcher,
        history=ledger.history,
        figures=SqlFigures(ledger.database),
        uploads=UploadAccount(ledger.database, settings),
    )


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=create_app(parts))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver:8000") as client:
        yield client


@pytest.fixture
async def keys(parts: Parts) -> AsyncIterator[SqlKeys]:
    opened = await SqlKeys.open(parts.settings.ledger_address)
    yield opened
    await opened.close()


@pytest.fixture
def locked(parts: Parts, keys: SqlKeys) -> Parts:
    """They with keys required, whatever Host is called."""
    settings = parts.settings.model_copy(update={"keys": "required", "allowed_hosts": ()})
    return replace(parts, settings=settings, keys=keys)


@pytest.fixture
async def up(client: httpx2.AsyncClient) -> Uploader:
    return Uploader(client)


@pytest.fixture
def dispatch(parts: Parts, runner: FakeRunner, dispatcher: LocalDispatcher) -> Dispatch:
    """A context in which a dispatcher runs the queue."""

    @asynccontextmanager
    async def dispatch() -> AsyncIterator[None]:
        one = DispatchLoop(
            parts.ledger, runner, parts.settings, "dispatcher", lambda: 16, broadcast=dispatcher.broadcast
        )
        dispatcher.dispatching = one
        task = asyncio.create_task(one.run())
        try:
            yield
        finally:
            dispatcher.dispatching = None
            await one.stop()
            await task

    return dispatch


@pytest.fixture
async def dispatched(dispatch: Dispatch) -> AsyncIterator[None]:
    """A dispatcher runs the queue for as long as the test does."""
    async with dispatch():
        yield


@pytest.fixture
def reach(ledger: SqlLedger) -> Reach:
    """Wait until a request is in a state."""

    async def reach(request_id: str, state: State) -> None:
        async def reached() -> bool:
            status = await ledger.status(request_id, APP)
            return status is not None and status.state is state

        await until(reached)

    return reach


@pytest.fixture
async def server(parts: Parts) -> AsyncIterator[str]:
    """The address of a real server with the app."""
    async with serving(parts) as address:
        yield address


@asynccontextmanager
async def serving(parts: Parts) -> AsyncIterator[str]:
    """A real server with the app of `parts`; its address."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(parts), ws="none", lifespan="off", log_level="warning")
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve(sockets=[listening]))

    async def started() -> bool:
        return serving.started

    await until(started)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving.should_exit = True
    await task
    listening.close()
