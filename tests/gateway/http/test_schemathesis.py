"""Every operation of the service's own document, called thousands of times: no 500, and errors only in fal's shape."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.applications import Starlette
from starlette.routing import Mount

from gateway.app import Parts, create_app
from gateway.dispatching import Dispatching
from gateway.endpoints import ENDPOINTS
from gateway.files.local import LocalFiles
from gateway.http.openapi import service_document
from gateway.ledger.sql import SqlLedger
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FakeRunner

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


def served() -> Starlette:
    """The app with a dispatcher and a runner that draws nothing, made in the event loop in which it is called."""

    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncIterator[None]:
        with TemporaryDirectory() as folder:
            values = GatewaySettings(
                data_dir=Path(folder), tick_s=0.02, beat_s=0.05, stop_grace_s=0.1, allowed_hosts=("testserver",)
            )
            ledger = await SqlLedger.open(values.ledger_address)
            files = LocalFiles(values.data_dir / "files")
            parts = Parts(values, ledger, files, FakeRunner(steps=1), history=ledger.history)
            outer.router.routes[:] = [Mount("/", create_app(parts))]
            dispatching = Dispatching(ledger, parts.runner, values, "dispatcher", lambda: 16)
            task = asyncio.create_task(dispatching.run())
            yield
            await dispatching.stop()
            await task
            await ledger.close()

    return Starlette(lifespan=lifespan)


def described() -> OpenApiSchema:
    # its coverage phase alone makes tens of thousands of calls, for the lists with hundreds of values
    config = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
    document = service_document([*ENDPOINTS.values()], "http://testserver", keys_required=False)
    schema = schemathesis.openapi.from_dict(document, config=config)
    schema.app = served()
    return schema


DOCUMENT = described()
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(scope="module", autouse=True)
def _stopped_in_the_end() -> Iterator[None]:
    yield
    shutdown_lifespans()


def check(case: Case, response: Response) -> None:
    case.validate_response(response, checks=[*CHECKS])
    if response.status_code >= 400:
        detail = response.json()["detail"]
        assert isinstance(detail, str) or all({"loc", "msg", "type", "url"} <= set(entry) for entry in detail)


@DOCUMENT.parametrize()
@SETTINGS
def test_every_operation(case: Case) -> None:
    check(case, case.call())


def test_requests_are_followed_by_the_documents_links() -> None:
    """From submit on: status, result and cancel of the request that there is."""

    class Following(DOCUMENT.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            check(case, response)

    Following.run(settings=settings(SETTINGS, max_examples=30, stateful_step_count=12, phases=[Phase.generate]))
