"""The published client of the Model Context Protocol draws here, over HTTP."""

import asyncio
import base64
import runpy
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest
from mcp import MCPError

from gateway.app import Parts
from gateway.endpoints import ENDPOINTS
from gateway.errors import ModelError
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.models import Outcome, State
from gateway.ledger.store import SqlLedger
from tests.gateway.fakes import FAST, INPUT, FakeRunner, until
from tests.gateway.http.conftest import APP, Dispatch, Reach, serving
from tests.gateway.http.storing import PNG
from tests.gateway.mcp.conftest import LEGACY, MODERN, Calls, connected, images, structure
from tests.gateway.storing_runner import DRAWN
from tests.pages import ADDRESS, blocks, page

ASKED = {"endpoint_id": FAST, "input": {**INPUT}}
TOOLS = {"list_endpoints", "schema", "run", "submit", "status", "result", "cancel", "upload"}


@pytest.mark.parametrize("mode", [LEGACY, MODERN, "auto"])
async def test_the_tools_are_listed_with_their_schemas(address: str, mode: str) -> None:
    async with connected(address, mode) as mcp:
        tools = {tool.name: tool for tool in (await mcp.list_tools()).tools}
        assert tools.keys() == TOOLS
        for tool in tools.values():
            jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        endpoints = structure(await mcp.call_tool("list_endpoints"))["endpoints"]
        assert [one["endpoint_id"] for one in endpoints] == [*ENDPOINTS]
        assert all(one["description"] for one in endpoints)


async def test_a_schema_lets_the_endpoints_input_pass(mcp: Calls) -> None:
    found = structure(await mcp.call_tool("schema", {"endpoint_id": FAST}))
    jsonschema.validate(INPUT, found["input"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**INPUT, "num_images": 9}, found["input"])


@pytest.mark.usefixtures("dispatched")
@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_a_run_answers_pictures_and_their_addresses(
    address: str, runner: FakeRunner, ledger: SqlLedger, mode: str
) -> None:
    heard: list[tuple[float, float | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total))

    runner.pause_s = 0.02
    async with connected(address, mode) as mcp:
        result = await mcp.call_tool("run", ASKED, progress_callback=hear)
        output = structure(result)
        assert images(result) == [(DRAWN, "image/png")]
        assert output["images"][0]["url"].startswith(f"{address}/files/outputs/")
        assert output["seed"] == 7
        assert heard
        assert {total for _, total in heard} == {3}
    status = await ledger.status(output["request_id"], APP)
    assert status is not None
    assert status.outcome is Outcome.OK


@pytest.mark.usefixtures("dispatched")
async def test_pictures_are_left_out_where_they_are_not_wanted(mcp: Calls) -> None:
    result = await mcp.call_tool("run", {**ASKED, "pictures": False})
    assert images(result) == []
    assert structure(result)["images"][0]["url"]


async def test_a_request_goes_through_the_queue(mcp: Calls, dispatch: Dispatch, reach: Reach) -> None:
    typo = {**ASKED, "input": {**INPUT, "promtp": "a typo"}}
    submitted = structure(await mcp.call_tool("submit", typo))
    assert submitted["inactive"] == ["unknown:promtp"]
    named = {"endpoint_id": FAST, "request_id": submitted["request_id"]}
    assert structure(await mcp.call_tool("status", named))["status"] == "IN_QUEUE"
    assert structure(await mcp.call_tool("result", named), is_error=True)["detail"] == "Request is still in progress"
    async with dispatch():
        await reach(submitted["request_id"], State.DONE)
    status = structure(await mcp.call_tool("status", {**named, "logs": True}))
    assert status["status"] == "COMPLETED"
    assert any("promtp" in line["message"] for line in status["logs"])
    assert images(await mcp.call_tool("result", named)) == [(DRAWN, "image/png")]


async def test_a_request_that_waits_is_cancelled(mcp: Calls) -> None:
    named = {"endpoint_id": FAST, "request_id": structure(await mcp.call_tool("submit", ASKED))["request_id"]}
    assert structure(await mcp.call_tool("cancel", named)) == {"status": "OK"}
    again = structure(await mcp.call_tool("cancel", named), is_error=True)
    assert (again["status"], again["status_code"]) == ("ALREADY_COMPLETED", 400)


async def test_an_upload_has_an_address_for_inputs(mcp: Calls) -> None:
    content = base64.encodebytes(PNG).decode()  # in lines, as the command of that name writes it
    whole = structure(await mcp.call_tool("upload", {"file_name": "a.png", "content": content}))
    signed = structure(await mcp.call_tool("upload", {"file_name": "a.png", "content_type": "image/png"}))
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.put(signed["upload_url"], content=PNG)).status_code == 200
        for found in (whole, signed):
            assert (await client.get(found["file_url"])).content == PNG


async def test_a_fault_is_a_result_that_says_so(address: str) -> None:
    unknown = {"endpoint_id": FAST, "request_id": "unknown"}
    faults: list[tuple[str, dict[str, Any], int, list[str] | None]] = [
        ("run", {"endpoint_id": FAST, "input": {}}, 422, ["body", "prompt"]),
        ("run", {**ASKED, "colour": "red"}, 422, ["body", "colour"]),
        ("submit", {"endpoint_id": FAST}, 422, ["body", "input"]),
        ("upload", {"content": "no base64!"}, 422, ["body", "content"]),
        ("schema", {"endpoint_id": "fal-ai/foocus"}, 404, None),
        ("status", unknown, 404, None),
        ("result", unknown, 404, None),
        ("cancel", unknown, 404, None),
    ]
    async with connected(address, MODERN) as mcp:
        for tool, arguments, status, where in faults:
            found = structure(await mcp.call_tool(tool, arguments), is_error=True)
            assert found["status_code"] == status, tool
            assert (found["detail"][0]["loc"] if where else None) == where, tool


@pytest.mark.usefixtures("dispatched")
async def test_a_failure_of_the_model_is_one_of_the_tool(mcp: Calls, runner: FakeRunner) -> None:
    runner.fault = ModelError("image_too_small", "Too small.", ("image_url",))
    found = structure(await mcp.call_tool("run", ASKED), is_error=True)
    assert (found["status_code"], found["detail"][0]["type"]) == (422, "image_too_small")


async def test_an_unknown_tool_is_a_fault_of_the_protocol(address: str) -> None:
    async with connected(address, MODERN) as mcp:
        with pytest.raises(MCPError, match="Unknown tool: draw"):
            await mcp.call_tool("draw", {})


@pytest.mark.usefixtures("dispatched")
@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_a_client_that_leaves_cancels_its_run(
    address: str, runner: FakeRunner, ledger: SqlLedger, reach: Reach, mode: str
) -> None:
    runner.pause_s = 60

    async def call() -> None:
        async with connected(address, mode) as mcp:
            await mcp.call_tool("run", ASKED)

    calling = asyncio.create_task(call())
    await until(runner.begun)
    await reach(runner.ids[0], State.RUNNING)
    calling.cancel()
    await asyncio.gather(calling, return_exceptions=True)
    await reach(runner.ids[0], State.DONE)
    status = await ledger.status(runner.ids[0], APP)
    assert status is not None
    assert status.outcome is Outcome.CANCELLED
    await until(runner.all_left)


async def test_keys_and_owners_are_those_of_fals_routes(locked: Parts, keys: SqlKeys) -> None:
    mine, others, reading = [
        {"authorization": f"Bearer {(await keys.create('app', scopes, KeyLimits(queue_length=1))).credentials}"}
        for scopes in ((Scope.RUN, Scope.STORAGE), (Scope.RUN,), (Scope.STORAGE,))
    ]
    async with serving(locked) as address:
        async with connected(address, MODERN, mine) as mcp:
            request_id = structure(await mcp.call_tool("submit", ASKED))["request_id"]
            assert structure(await mcp.call_tool("submit", ASKED), is_error=True)["status_code"] == 429
            assert structure(await mcp.call_tool("upload", {}))["upload_url"]
        async with connected(address, MODERN, others) as mcp:
            named = {"endpoint_id": FAST, "request_id": request_id}
            for tool in ("status", "result", "cancel"):
                assert structure(await mcp.call_tool(tool, named), is_error=True)["status_code"] == 404
            assert structure(await mcp.call_tool("upload", {}), is_error=True)["status_code"] == 403
        for headers, status in (({}, 401), (reading, 403), ({"authorization": "Bearer x:y"}, 401)):
            async with httpx2.AsyncClient(trust_env=False) as client:
                assert (await client.post(f"{address}/mcp", json={}, headers=headers)).status_code == status


def test_the_page_has_every_tool() -> None:
    table = page("docs/other-front-ends.md").split("\n## MCP\n")[1].split("\n## ")[0]
    assert {name for name in TOOLS if f"| `{name}` |" in table} == TOOLS


@pytest.mark.usefixtures("dispatched")
async def test_the_pages_program_runs_as_it_is_printed(address: str, tmp_path: Path) -> None:
    source = blocks(page("docs/other-front-ends.md"), "python")[1]
    assert source.count(ADDRESS) == 1
    program = source.replace(ADDRESS, address).replace('"cube.jpg"', repr(str(tmp_path / "cube.jpg")))
    (tmp_path / "app.py").write_text(program, encoding="utf-8")
    await asyncio.to_thread(runpy.run_path, str(tmp_path / "app.py"), run_name="__main__")
    assert (tmp_path / "cube.jpg").read_bytes() == DRAWN
