"""The pages with keys on, in two tabs, also while the gateway that serves them is killed."""

import asyncio
from typing import Any

import httpx2
import pytest

from gateway.keys.base import KeyLimits
from tests.deployments.fakes import wait_until
from tests.gateway.playground.conftest import Tab, browser_address, tabs  # noqa: F401 (fixtures)
from tests.kills.conftest import NewKey
from tests.kills.holding import FREE
from tests.kills.service import Served

pytestmark = [pytest.mark.cluster, pytest.mark.long]

PATH = "/models/fal-ai/fast-fooocus-sdxl"
BROKEN = "net::ERR_"  # what a browser writes into its console of connections that a killed process had


@pytest.fixture
def credentials(new_key: NewKey) -> str:
    return new_key(KeyLimits())["authorization"].removeprefix("Key ")


@pytest.fixture
async def open_with_key(tabs: Any, keyed: Served, credentials: str) -> Any:  # noqa: F811
    """Opens a tab at a path, with the same key in each."""

    async def opened(path: str) -> Tab:
        tab: Tab = await tabs(keyed.address)
        await tab.page.add_init_script(f"sessionStorage.setItem('fooocus.key', '{credentials}')")
        await tab.open(path)
        return tab

    return opened


async def fill(tab: Tab, name: str, number: int) -> None:
    await tab.unfold()
    await tab.field(name).locator("input:not([type=range])").fill(str(number))


async def draw(tab: Tab) -> str:
    """Ask for a picture that is held while it is drawn; where the request is found again."""
    await fill(tab, "seed", FREE + 1)
    await tab.ask("a red cube")
    await tab.state("running")
    return str(tab.page.url).removeprefix(tab.address)


def lose_the_gateway(keyed: Served) -> None:
    def is_ready() -> bool:
        try:
            return client.get("/ready").status_code == 200
        except httpx2.TransportError:
            return False

    keyed.kill(":Gateway")
    with httpx2.Client(base_url=keyed.address, timeout=20, trust_env=False) as client:
        wait_until(is_ready, 120)


def forgive(*opened: Tab) -> None:
    """What a browser writes into its console by itself is no fault of the page: of connections to a process that was
    killed, of calls without a key or with a wrong one, and of a picture before it is fetched with the key."""
    ours = (BROKEN, "status of 401 ", "status of 404 ", "status of 50")
    for tab in opened:
        tab.errors = [each for each in tab.errors if not any(part in each for part in ours)]


async def drawn(tab: Tab, number: int = 1) -> None:
    """So many pictures have come, each fetched with the key."""
    await tab.state("done")
    await tab.page.locator('fs-pictures img[src^="blob:"]').nth(number - 1).wait_for()
    assert len(await tab.pictures()) == number


async def test_a_key_that_is_missing_or_wrong_is_asked_for(keyed: Served, tabs: Any, credentials: str) -> None:  # noqa: F811
    """The request that was refused goes on with it by itself."""
    tab = await tabs(keyed.address)
    await tab.open(PATH)
    await tab.ask("a red cube")
    await tab.enter("wrong:key")
    await tab.page.get_by_text("The API key is not valid").wait_for()
    await tab.enter(credentials)
    await drawn(tab)
    forgive(tab)


async def test_who_waits_loses_nothing_with_the_gateway(keyed: Served, open_with_key: Any) -> None:
    keyed.hold.touch()
    tab = await open_with_key(PATH)
    await draw(tab)
    await asyncio.to_thread(lose_the_gateway, keyed)
    keyed.hold.unlink()
    await drawn(tab)
    forgive(tab)


async def test_a_second_tab_follows_and_stops_and_lists_behind_a_lost_gateway(
    keyed: Served, open_with_key: Any
) -> None:
    keyed.hold.touch()
    tab = await open_with_key(PATH)
    path = await draw(tab)
    await asyncio.to_thread(lose_the_gateway, keyed)
    other = await open_with_key(path)
    await other.state("running")
    tab.refused = other.refused = 499
    await other.page.get_by_role("button", name="Stop").click()
    await other.state("stopped")
    await tab.state("stopped")
    keyed.hold.unlink()
    await other.open("/requests")
    request_id = path.partition("request=")[2].partition("#")[0]
    await other.page.locator(f"fs-request[data-id='{request_id}']").wait_for()
    forgive(tab, other)


async def test_previews_are_shown_behind_a_lost_gateway(keyed: Served, open_with_key: Any) -> None:
    tab = await open_with_key(PATH)
    await asyncio.to_thread(lose_the_gateway, keyed)
    await tab.page.get_by_text("Watch it being drawn").click()
    await fill(tab, "num_inference_steps", 24)
    await tab.ask("a red cube")
    await tab.page.locator("img.preview").first.wait_for()
    await tab.state("done")
    forgive(tab)
