"""The history where answers come late, in another order, or not at all."""

import asyncio
from typing import Any

from tests.gateway.playground.conftest import COUNTED, SEEN, Service, Tab, details, reach, rows, words
from tests.gateway.playground.painting import PaintingRunner


class Held:
    """Calls that a browser makes to some addresses: they go on when they are let go."""

    def __init__(self, methods: str) -> None:
        self._methods = methods
        self.begun, self.free = asyncio.Event(), asyncio.Event()

    async def __call__(self, route: Any) -> None:
        if route.request.method in self._methods:
            self.begun.set()
            await self.free.wait()
        await route.continue_()


async def test_a_deletion_that_ends_late_leaves_what_is_shown_by_then(tab: Tab, service: Service) -> None:
    await service.draw("other")
    gone = await service.draw("gone")
    await tab.open("/requests")
    held = Held("DELETE")
    await tab.page.route(f"**/queue/requests/{gone}", held)
    dialog = await details(tab)
    await dialog.get_by_role("button", name="Delete …").click()
    question = tab.page.get_by_role("dialog", name="Delete this request?")
    await question.get_by_role("button", name="Delete", exact=True).click()
    await held.begun.wait()
    for each in (question, dialog):
        await tab.page.keyboard.press("Escape")
        await each.wait_for(state="hidden")
    await details(tab, row=1)
    held.free.set()
    await rows(tab).nth(1).wait_for(state="detached")
    assert await words(tab) == ["other"]
    assert await dialog.is_visible()


async def test_a_deleted_request_is_marked_no_more(tab: Tab, service: Service) -> None:
    await service.draw()
    await tab.open("/requests")
    await rows(tab).get_by_role("checkbox").check()
    await tab.page.get_by_text("Mark another one to compare.").wait_for()
    await (await details(tab)).get_by_role("button", name="Delete …").click()
    question = tab.page.get_by_role("dialog", name="Delete this request?")
    await question.get_by_role("button", name="Delete", exact=True).click()
    await tab.page.get_by_text("Nothing was drawn yet.").wait_for()
    await tab.page.get_by_text("Mark another one to compare.").wait_for(state="hidden")


async def open_while_drawn(tab: Tab, service: Service, runner: PaintingRunner, prompt: str) -> None:
    """The history with this request, which is drawn until the gate is opened."""
    runner.gate.clear()
    await service.wait(prompt)
    await tab.open("/requests")
    assert await words(tab) == [prompt]


async def test_details_that_see_the_end_first_give_the_row_its_picture(
    tab: Tab, service: Service, runner: PaintingRunner
) -> None:
    await open_while_drawn(tab, service, runner, "slow")
    # as where the row's own turn is always later
    await tab.page.evaluate("clearInterval(document.querySelector('fs-requests').timer)")
    dialog = await details(tab)
    runner.gate.set()
    await dialog.get_by_text("drawn, ").wait_for()
    await rows(tab).locator(".thumb img").wait_for()


async def test_what_is_looked_at_again_has_what_came_meanwhile_and_rows_go_on_to_their_end(
    tab: Tab, service: Service, runner: PaintingRunner
) -> None:
    await open_while_drawn(tab, service, runner, "first")
    states = tab.page.locator(".outcome")
    await states.get_by_text("drawing").wait_for()
    await service.wait("second")
    await tab.page.evaluate(SEEN, "hidden")
    await tab.page.evaluate(SEEN, "visible")
    await rows(tab).nth(1).wait_for()
    assert await words(tab) == ["second", "first"]
    runner.gate.set()
    await states.get_by_text("drawn").nth(1).wait_for()
    await rows(tab).nth(1).locator(".thumb img").wait_for()


async def test_a_poll_that_fails_leaves_the_details_and_is_made_again(
    tab: Tab, service: Service, runner: PaintingRunner
) -> None:
    runner.gate.clear()
    request_id = await service.wait("slow")
    await tab.open("/requests")
    dialog = await details(tab)
    tab.refused = 503
    address = f"**/queue/requests/{request_id}"
    await tab.page.route(address, lambda route: route.fulfill(status=503, json={"detail": "Not now."}))
    await dialog.get_by_text("Not now.").wait_for()
    assert await dialog.locator(".facts").first.is_visible()
    await tab.page.unroute(address)
    runner.gate.set()
    await dialog.get_by_text("drawn, ").wait_for()
    assert not await dialog.get_by_text("Not now.").is_visible()


async def test_a_picture_that_comes_after_its_row_has_left_is_let_go(tab: Tab, service: Service) -> None:
    await service.draw()
    await tab.page.add_init_script(COUNTED)
    held = Held("GET")
    await tab.page.route("**/files/outputs/**", held)
    await tab.open("/requests")
    await held.begun.wait()
    await tab.page.get_by_label("State").select_option("Failed")
    await tab.page.get_by_text("No request is of this kind.").wait_for()
    held.free.set()
    await reach(tab, "() => window.made === 1 && window.alive.size === 0")
