"""A key is asked for where one is needed, is entered once, and stands in no address."""

from dataclasses import replace
from typing import Any

from gateway.app import Parts
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from tests.gateway.http.conftest import serving
from tests.gateway.playground.conftest import COUNTED, reach
from tests.gateway.playground.painting import SIDE


async def test_a_refused_request_leads_to_the_key(locked: Parts, keys: SqlKeys, tabs: Any, dispatched: None) -> None:
    made = await keys.create("me", {Scope.RUN, Scope.STORAGE}, KeyLimits())
    async with serving(locked) as server:
        tab = await tabs(server)
        tab.refused = 401
        await tab.open()
        await tab.ask("a red cube")
        await tab.enter("wrong:key")
        await tab.page.get_by_text("The API key is not valid").wait_for()
        await tab.enter(made.credentials)
        await tab.state("done")  # the request that was refused has gone on by itself
        assert await tab.pictures() == [SIDE]
        secret = made.credentials.partition(":")[2]
        assert all(secret not in url for url in (*tab.urls, tab.page.url))
        await tab.page.reload()
        await tab.state("done")


async def test_streams_and_private_pictures_have_the_key_as_a_header(
    locked: Parts, keys: SqlKeys, tabs: Any, dispatched: None
) -> None:
    made = await keys.create("me", {Scope.ADMIN}, KeyLimits())
    private = replace(locked, settings=locked.settings.model_copy(update={"files_access": "key"}))
    async with serving(private) as server:
        tab = await tabs(server)
        await tab.page.add_init_script(COUNTED)
        tab.refused = 404  # of the picture without the key, before it is fetched with it
        await tab.open("/#key")
        await tab.enter(made.credentials)
        await tab.page.get_by_role("dialog").wait_for(state="hidden")
        await tab.page.get_by_text("Watch it being drawn").click()
        await tab.ask("a red cube")
        await tab.state("done")
        await tab.page.locator('fs-pictures img[src^="blob:"]').wait_for()
        assert await tab.pictures() == [SIDE]
        await reach(tab, "() => window.made > 0 && window.alive.size === 0")  # what is drawn needs no address
        for path in ("/requests", "/status"):
            await tab.open(path)
        asked = [url.removeprefix(server).partition("?")[0] for url in tab.urls]
        assert {"/run/fal-ai/fooocus/stream", "/queue/requests", "/status"} <= {*asked}
        assert any(path.startswith("/files/outputs/") for path in asked)
        assert any(path.endswith("/status/stream") for path in asked)
        secret = made.credentials.partition(":")[2]
        assert [url for url in (*tab.urls, tab.page.url) if secret in url or "token" in url.partition("?")[2]] == []


async def test_an_open_service_asks_for_nothing(tab: Any) -> None:
    await tab.open()
    assert await tab.page.get_by_text("Enter a key").filter(visible=True).count() == 0
    assert await tab.page.get_by_role("dialog").count() == 0
