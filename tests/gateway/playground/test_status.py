"""The page for operators: what runs, renewed while somebody looks; what is not known, and who may not see it."""

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from gateway.app import Parts
from gateway.errors import PlatformError
from gateway.http import overview
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.figures import LOOKED_THROUGH
from gateway.worker.overview import Drawer, Lately, Overview
from tests.gateway.fakes import LocalDispatcher
from tests.gateway.http.conftest import serving
from tests.gateway.playground.conftest import SEEN, Tab
from tests.gateway.playground.painting import PaintingRunner
from tests.gateway.playground.test_looks import AXE, judged_in_both, shoot

MARKUP = "<img src=x onerror=\"console.error('it ran')\">"
DRAWER = Drawer("diffuser-1", "drawing", 16, 4.0, 2, ("lcm x 1",), 3, Lately(10, 55, 0.5, 4, 1, 2, 6))
LEADING = Overview("dispatcher-1", 90_000.0, [DRAWER, Drawer("diffuser-2", "ended", 0, 0.0, 0)], 1)


@pytest.fixture(autouse=True)
def _told_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "FRESH_S", 0.0)
    monkeypatch.setattr(overview, "SHARE", 1e9)


class Looking:
    """A tab at the page whose time is turned on by hand."""

    def __init__(self, tab: Tab) -> None:
        self.tab, self.page = tab, tab.page
        self._asked = 0
        tab.page.on("request", self._saw)

    def _saw(self, request: Any) -> None:
        self._asked += request.url.endswith("/status") and request.resource_type == "fetch"

    async def open(self) -> None:
        await self.page.clock.install()
        await self.tab.open("/status")

    async def turn(self, seconds: float = 5) -> int:
        """How often the service was asked when so many seconds are over."""
        before = self._asked
        await self.page.clock.run_for(seconds * 1000)
        await self._answered()
        return self._asked - before

    async def see(self, seen: str) -> None:
        await self.page.evaluate(SEEN, seen)
        await self._answered()

    async def _answered(self) -> None:
        await self.page.locator('fs-status[aria-busy="false"]').wait_for(state="attached")

    async def rows(self, title: str) -> Sequence[Sequence[str]]:
        rows = await self.page.get_by_role("region", name=title).locator("tbody tr").all_inner_texts()
        return [[cell.strip() for cell in row.split("\t")] for row in rows]


@pytest.fixture
def looking(tab: Tab) -> Looking:
    return Looking(tab)


async def fail(server: str, runner: PaintingRunner, message: str = MARKUP) -> str:
    """A request that ends with an error; its id."""
    runner.fault = PlatformError("runner_server_error", message)
    async with httpx2.AsyncClient(base_url=server) as client:
        answer = await client.post("/run/fal-ai/fooocus", json={"prompt": MARKUP}, headers={"x-fal-no-retry": "1"})
    found: str = answer.headers["x-fal-request-id"]
    return found


async def test_an_operator_sees_what_runs_and_what_went_wrong(
    looking: Looking, server: str, dispatcher: LocalDispatcher, dispatched: None, runner: PaintingRunner
) -> None:
    dispatcher.told = LEADING
    failed = await fail(server, runner)
    await looking.open()
    first, second = await looking.rows("Replicas that draw")
    assert first == [
        *("diffuser-1", "drawing", "4 of 16", "2", "5.5", "50 %"),
        *("the family's own, lcm x 1", "3", "4 of 5", "2 of 8"),
    ]
    assert "lost, waits to be replaced" in second
    (error,) = await looking.rows("Last errors")
    assert MARKUP in error
    assert "500 runner_server_error" in error
    tiles = await looking.page.locator(".tiles").inner_text()
    assert "dispatcher-1, for 25 h 0 min" in tiles
    assert "2, 1 starting" in tiles
    assert await looking.page.get_by_text("Nothing waits, and nothing is drawn.").is_visible()
    await shoot(looking.tab, "7-status")
    await looking.page.get_by_role("link", name=failed).click()
    await looking.tab.state("failed")
    looking.tab.errors = [error for error in looking.tab.errors if "status of 500 " not in error]


@pytest.mark.long
async def test_it_is_renewed_while_somebody_looks_and_what_has_the_focus_keeps_it(
    looking: Looking, server: str, dispatched: None, runner: PaintingRunner
) -> None:
    first = await fail(server, runner)
    await looking.open()
    await looking.page.get_by_role("link", name=first).focus()
    second = await fail(server, runner)
    assert await looking.turn() == 1
    assert [row[0] for row in await looking.rows("Last errors")] == [second, first]
    assert await looking.page.evaluate("document.activeElement.textContent") == first
    await looking.see("hidden")
    assert await looking.turn(60) == 0
    await looking.see("visible")
    assert await looking.turn() == 1


@pytest.mark.long
async def test_it_says_what_is_not_known_and_that_the_service_is_not_reached(
    looking: Looking, dispatcher: LocalDispatcher
) -> None:
    dispatcher.away = True
    await looking.open()
    assert await looking.page.get_by_text("Unknown: the dispatcher does not answer.").is_visible()
    assert await looking.page.get_by_text(f"None among the last {LOOKED_THROUGH:,} requests.").is_visible()
    dispatcher.away = False
    await looking.page.route("**/status", lambda route: route.abort())
    await looking.turn()
    said = looking.page.get_by_role("status")
    assert "The service cannot be reached. What is shown is of" in await said.inner_text()
    await looking.page.unroute("**/status")
    await looking.turn()
    assert await said.inner_text() == ""
    assert not await looking.page.get_by_text("Unknown:").filter(visible=True).count()
    looking.tab.errors = [error for error in looking.tab.errors if "ERR_FAILED" not in error]


async def test_it_is_for_keys_of_administrators(locked: Parts, keys: SqlKeys, tabs: Any) -> None:
    user, admin = [(await keys.create("me", {scope}, KeyLimits())).credentials for scope in (Scope.RUN, Scope.ADMIN)]
    async with serving(locked) as server:
        tab = await tabs(server)
        await tab.open("/status")
        await tab.enter(user)
        said = tab.page.get_by_role("status")
        await said.filter(has_text="lacks the scope 'admin'").wait_for()
        assert "--scope admin" in await said.inner_text()
        await tab.page.locator("fs-status").get_by_role("link", name="Enter a key").click()
        await tab.enter(admin)
        await tab.page.get_by_text("Leading dispatcher").wait_for()
        secrets = [key.partition(":")[2] for key in (user, admin)]
        assert [url for url in (*tab.urls, tab.page.url) if any(secret in url for secret in secrets)] == []
        tab.errors = [error for error in tab.errors if "status of 401 " not in error and "status of 403 " not in error]


@pytest.mark.long
@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
async def test_it_is_for_everybody_and_for_narrow_screens(
    looking: Looking, server: str, dispatcher: LocalDispatcher, dispatched: None, runner: PaintingRunner
) -> None:
    dispatcher.told = LEADING
    await fail(server, runner)
    await looking.page.set_viewport_size({"width": 360, "height": 740})
    await looking.open()
    assert await looking.page.evaluate("document.documentElement.scrollWidth") <= 360
    await looking.page.evaluate(AXE.read_text(encoding="utf-8"))
    assert await judged_in_both(looking.tab) == []
