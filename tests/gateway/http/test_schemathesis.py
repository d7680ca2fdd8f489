"""Every operation of the service's own document, called thousands of times: no 500, and errors only in fal's shape."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
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

from gateway.app import Parts, create_app
from gateway.endpoints import ENDPOINTS
from gateway.files.backends import LocalFiles
from gateway.files.upload_quota import UploadAccount
from gateway.http.openapi import service_document
from gateway.ledger.figures import SqlFigures
from gateway.ledger.store import SqlLedger
from gateway.settings import GatewaySettings
from gateway.worker.dispatcher import DispatchLoop
from tests.gateway.fakes import FakeRunner, LocalDispatcher

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
PNG = b"\x89PNG\r\n\x1a\n picture"
BEGUN = "/cdn/files/uploads/{upload_id}/{name}/multipart/{token}"


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
            dispatcher = LocalDispatcher()
            uploads = UploadAccount(ledger.database, values)
            figures = SqlFigures(ledger.database)
            parts = Parts(values, ledger, files, dispatcher, history=ledger.history, figures=figures, uploads=uploads)
            outer.router.default = create_app(parts)  # a Mount knows no path with a line break
            dispatching = DispatchLoop(
                ledger, FakeRunner(steps=1), values, "dispatcher", lambda: 16, broadcast=dispatcher.broadcast
            )
            dispatcher.dispatching = dispatching
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
    max_examples=40,
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


def test_what_was_uploaded_is_there() -> None:
    """In each of the ways of the document, with answers that are as it says."""
    address = answered("/rest/storage/upload/initiate", "POST", body={"file_name": "ä.png"})
    answered(*at(address["upload_url"], "/cdn/upload/{upload_id}", "PUT"), content=PNG)
    assert read(address["file_url"]) == PNG
    assert read(answered("/cdn/files/upload", "POST", content=PNG)["access_url"]) == PNG

    address = answered("/rest/storage/upload/initiate-multipart", "POST", body={})
    part = answered(*at(address["upload_url"], "/cdn/upload/{upload_id}/{number}", "PUT"), content=PNG)
    complete = at(address["upload_url"], "/cdn/upload/{upload_id}/complete", "POST")
    assert read(answered(*complete, body={"parts": [part]})["file_url"]) == PNG

    begun = answered("/cdn/files/upload/multipart", "POST")
    named = {**below(begun["access_url"]), "token": begun["uploadId"]}
    part = answered(f"{BEGUN}/{{number}}", "PUT", named, content=PNG)
    assert read(answered(f"{BEGUN}/complete", "POST", named, body={"parts": [part]})["access_url"]) == PNG
    assert answered("/rest/storage/auth/token", "POST")["token_type"] == "Bearer"


@DOCUMENT.include(operation_id=["upload_content", "upload_part", "complete_upload"]).parametrize()
@SETTINGS
def test_signed_addresses_take_any_content(case: Case) -> None:
    way = "initiate" if case.operation.path.endswith("{upload_id}") else "initiate-multipart"
    signed = answered(f"/rest/storage/upload/{way}", "POST", body={})["upload_url"]
    _, _, path, case.query = at(signed, case.operation.path, case.method)
    case.path_parameters = {**case.path_parameters, "upload_id": path["upload_id"]}
    check(case, case.call())


@DOCUMENT.include(operation_id=["upload_part_to_cdn", "complete_upload_to_cdn"]).parametrize()
@SETTINGS
def test_an_upload_that_is_begun_takes_any_content(case: Case) -> None:
    begun = answered("/cdn/files/upload/multipart", "POST")
    case.path_parameters = {**case.path_parameters, **below(begun["access_url"]), "token": begun["uploadId"]}
    check(case, case.call())


@DOCUMENT.include(operation_id="uploaded_file").parametrize()
@SETTINGS
def test_a_file_is_read_in_any_way(case: Case) -> None:
    case.path_parameters = below(answered("/cdn/files/upload", "POST", content=PNG)["access_url"])
    check(case, case.call())


@DOCUMENT.include(operation_id=["sign_file", "file_acl", "replace_file_acl"]).parametrize()
@settings(SETTINGS, max_examples=15)
def test_a_file_is_shared_in_any_way(case: Case) -> None:
    case.query = {"url": answered("/cdn/files/upload", "POST", content=PNG)["access_url"]}
    check(case, case.call())


def answered(
    path: str,
    method: str,
    named: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    content: bytes | None = None,
) -> Any:
    """The body of an answer that is a success and as the document says. named: in the path, where parts are 1."""
    kind = {"media_type": "application/json", "body": body} if body is not None else {}
    kind = kind if content is None else {"media_type": "application/octet-stream", "body": content}
    case = DOCUMENT[path][method].Case(path_parameters={"number": 1, **(named or {})}, query=dict(query or {}), **kind)
    response = case.call()
    check(case, response)
    assert response.status_code == 200
    return response.json() if "json" in response.headers["content-type"][0] else response.content


def at(signed: str, path: str, method: str) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """What `answered` needs to call `path` with the id and the token of a signed address."""
    address = urlsplit(signed)
    query = {name: values[0] for name, values in parse_qs(address.query).items()}
    return path, method, {"upload_id": address.path.rpartition("/")[2]}, query


def below(url: str) -> dict[str, str]:
    """The names in the path of a file's address."""
    upload_id, name = url.split("/")[-2:]
    return {"upload_id": upload_id, "name": name}


def read(url: str) -> Any:
    return answered("/cdn/files/uploads/{upload_id}/{name}", "GET", below(url))


def test_requests_are_followed_by_the_documents_links() -> None:
    """From submit on: status, result and cancel of the request that there is."""

    class Following(DOCUMENT.as_state_machine()):  # type: ignore[misc]
        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            check(case, response)

    again = settings(SETTINGS, max_examples=30, stateful_step_count=12, phases=[Phase.generate])
    for left in (2, 1, 0):
        try:
            Following.run(settings=again)
            return
        except FlakyStrategyDefinition:
            # whether a request has ended by now is a matter of moments, and so are the links that may be followed
            if not left:
                raise
