"""The pages and what they are made of, as a browser gets them."""

import re
from dataclasses import replace

import httpx2
import pytest

from gateway.app import Parts, create_app
from gateway.endpoints import ENDPOINTS
from gateway.endpoints.fields import MAX_SIDE, MIN_SIDE
from gateway.ledger.figures import LOOKED_THROUGH
from gateway.playground.assets import FOLDER, Assets
from gateway.work import FamilyState
from tests.gateway.http.test_service import FAMILY

PAGES = ("/", "/models/fal-ai/fooocus/inpaint", "/requests", "/status")
HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
MOST_BYTES = 120_000
MOST_LINES = 200


async def get(client: httpx2.AsyncClient, path: str, **headers: str) -> httpx2.Response:
    return await client.get(path, headers={**HTML, **headers})


async def loaded(client: httpx2.AsyncClient, path: str) -> dict[str, httpx2.Response]:
    """What a page makes a browser ask for, by address."""
    page = (await get(client, path)).text
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    return {address: await client.get(address) for address in dict.fromkeys(addresses)}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_lets_nothing_run_that_is_not_the_services_own(client: httpx2.AsyncClient, path: str) -> None:
    answer = await get(client, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self';" in policy
    assert "img-src 'self' data: blob:;" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    # nothing that the policy would stop
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_names_only_files_that_are_there(client: httpx2.AsyncClient, path: str) -> None:
    files = await loaded(client, path)
    assert {answer.status_code for answer in files.values()} == {200}
    assert {"main.js", "page.css"} <= {address.rpartition("/")[2] for address in files}
    assert all(answer.headers["x-content-type-options"] == "nosniff" for answer in files.values())


async def test_all_that_the_first_page_loads_is_light(client: httpx2.AsyncClient) -> None:
    page = len((await get(client, "/")).content)
    assert page + sum(len(answer.content) for answer in (await loaded(client, "/")).values()) < MOST_BYTES


async def test_what_one_page_alone_has_no_other_loads(client: httpx2.AsyncClient) -> None:
    own = {"status.css", "status.js", "report.js"}
    loads = {path: {address.rpartition("/")[2] for address in await loaded(client, path)} for path in PAGES}
    assert own <= loads["/status"]
    assert [path for path in PAGES if own & loads[path]] == ["/status"]
    assert all({"page.css", "playground.css"} <= names for names in loads.values())


async def test_it_travels_packed(client: httpx2.AsyncClient) -> None:
    (address,) = [each for each in await loaded(client, "/") if each.endswith("/page.css")]
    packed, whole = await client.get(address), await client.get(address, headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in whole.headers
    assert packed.content == whole.content


async def test_what_was_fetched_once_is_not_fetched_again(client: httpx2.AsyncClient) -> None:
    page = await get(client, "/")
    assert page.headers["cache-control"] == "no-cache"
    assert (await get(client, "/", **{"if-none-match": page.headers["etag"]})).status_code == 304
    address, file = next(iter((await loaded(client, "/")).items()))
    assert "immutable" in file.headers["cache-control"]
    # of a replica with other files
    other = await client.get(address.replace(address.split("/")[2], "0" * 16))
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("path", ["/static/1/nothing.js", "/static/1/../routes.py", "/static/1/%2e%2e/routes.py"])
async def test_nothing_but_the_files_of_the_pages_is_served(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_an_unknown_endpoint_has_a_page_that_says_so(client: httpx2.AsyncClient) -> None:
    answer = await get(client, "/models/<b>x")
    assert (answer.status_code, "<b>" in answer.text) == (404, False)


async def test_who_asks_for_json_gets_what_the_page_shows(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/requests")).json()["requests"] == []
    assert (await client.get("/status")).json()["errors"] == []


async def test_pages_need_no_key(locked: Parts) -> None:
    transport = httpx2.ASGITransport(app=create_app(locked))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert [(await get(client, path)).status_code for path in PAGES] == [200] * len(PAGES)
        assert 'data-keys="required"' in (await get(client, "/")).text
        assert {answer.status_code for answer in (await loaded(client, "/")).values()} == {200}


async def told(parts: Parts, family: FamilyState) -> str:
    transport = httpx2.ASGITransport(app=create_app(replace(parts, family=family)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return (await get(client, "/")).text


async def test_a_page_tells_what_the_family_has_and_lacks(parts: Parts) -> None:
    page = await told(parts, FAMILY)
    assert "<code>toy</code>" in page
    assert "<code>python -m models pull safety_checker --family toy --accept-unpinned</code>" in page
    assert (
        "<li>safety_checker_v2: <code>python -m models pull safety_checker_v2 --family toy --from FOLDER</code></li>"
        in page
    )
    assert "not checked" in page
    whole = await told(parts, FamilyState("<toy>", ("safety_checker",), {}))
    assert "&lt;toy&gt;" in whole
    assert "not checked" not in whole
    assert "lacks" not in whole


async def test_a_page_names_every_endpoint_and_document(client: httpx2.AsyncClient) -> None:
    page = (await get(client, "/")).text
    assert all(f">{endpoint_id}<" in page for endpoint_id in ENDPOINTS)
    assert all(f'"/openapi.json?endpoint_id={endpoint_id}"' in page for endpoint_id in ENDPOINTS)
    assert {'"/openapi.json"', '"/ready"'} <= {*re.findall(r'href=("[^"]+")', page)}
    assert "http://" not in page.replace("http://testserver", "")
    assert "https://" not in page


def test_modules_are_short_and_put_text_as_text() -> None:
    modules = [*FOLDER.glob("*.js")]
    assert modules
    for module in modules:
        text = module.read_text(encoding="utf-8")
        assert len(text.splitlines()) < MOST_LINES, module.name
        assert text.startswith("// "), module.name
        assert text.count("customElements.define(") <= 2, module.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), (
            module.name
        )
        assert "https://" not in text.replace("https://queue.fal.run", "").replace("https://fal.run", "").replace(
            "https://rest.fal.ai", ""
        ), module.name


def test_bounds_that_a_page_says_are_the_services() -> None:
    assert f"the last {LOOKED_THROUGH:,} requests" in (FOLDER / "report.js").read_text(encoding="utf-8")
    sides = re.search(r"const SIDE = (.*);", (FOLDER / "field-size.js").read_text(encoding="utf-8"))
    assert sides is not None
    assert f"min: {MIN_SIDE}, max: {MAX_SIDE}" in sides[1]


def test_all_files_are_part_of_the_package() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {*Assets.read().files}
