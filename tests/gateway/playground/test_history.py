"""The history: what was asked for is found again, told in full, drawn again, compared, and deleted."""

from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from gateway.app import Parts
from gateway.keys.base import KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.ledger.store import SqlLedger
from gateway.ledger.tables import request
from tests.gateway.fakes import FAST, PIXEL, until
from tests.gateway.http.conftest import serving
from tests.gateway.playground.conftest import Service, Tab, details, reach, rows, words
from tests.gateway.playground.painting import SIDE, PaintingRunner
from tests.gateway.playground.test_looks import AXE, judged_in_both

FOOOCUS = "fal-ai/fooocus"
LONG_S = 200
AT_ONCE = 500
LARGE = 2**62 + 1  # which a number of JavaScript cannot hold
LISTED = """(wanted) => {
  const found = [...document.querySelectorAll("fs-request .words")].map((each) => each.textContent);
  return found.join() === wanted.join();
}"""
# whether all that was wanted of rows has come
IDLE = "() => (({ few }) => !few.going && !few.waiting.size)(document.querySelector('fs-requests'))"
EVIL = "<img src=x onerror=\"document.body.dataset.broken='1'\">"


async def copy(ledger: SqlLedger, count: int) -> None:
    """More rows like the last one."""

    def add(connection: Connection, numbers: range) -> None:
        last = request.select().order_by(request.c.seq.desc()).limit(1)
        row = dict(connection.execute(last).mappings().one())
        del row["seq"]
        connection.execute(insert(request), [row | {"id": f"copy-{number}"} for number in numbers])

    for first in range(0, count, AT_ONCE):  # a transaction must not take long
        await ledger.database.write(partial(add, numbers=range(first, min(count, first + AT_ONCE))))


async def test_requests_are_listed_newest_first_with_small_pictures(tab: Tab, service: Service) -> None:
    await service.draw("a red cube")
    await service.draw("two blue balls", FOOOCUS, num_images=2)
    await service.fail("a tiny one", "Too small.")
    await tab.open("/requests")
    assert await words(tab) == ["Too small.", "two blue balls", "a red cube"]
    assert await tab.page.locator(".outcome").all_text_contents() == ["failed", "drawn", "drawn"]
    await tab.page.locator(".thumb img").nth(1).wait_for()
    heights = "all => Promise.all(all.map((img) => img.decode().then(() => img.naturalHeight)))"
    assert await tab.page.locator(".thumb img").evaluate_all(heights) == [SIDE // 2, SIDE // 2]
    assert await tab.page.locator(".count").all_text_contents() == ["2"]


async def test_a_filter_stands_in_the_address_for_reload_and_back(tab: Tab, service: Service) -> None:
    await service.draw("drawn fast")
    await service.draw("drawn by fooocus", FOOOCUS)
    await service.fail("failed", "Too small.")
    await tab.open("/requests")
    await tab.page.get_by_label("State").select_option("Drawn")
    await listed(tab, "drawn by fooocus", "drawn fast")
    await tab.page.get_by_label("Endpoint").select_option(FAST)
    await listed(tab, "drawn fast")
    await tab.page.reload()
    await listed(tab, "drawn fast")
    assert await tab.page.get_by_label("State").input_value() == "outcome=ok"
    await tab.page.go_back()
    await listed(tab, "drawn by fooocus", "drawn fast")
    assert await tab.page.get_by_label("Endpoint").input_value() == ""
    await tab.page.get_by_label("State").select_option("Waiting")
    await tab.page.get_by_text("No request is of this kind.").wait_for()


async def listed(tab: Tab, *wanted: str) -> None:
    await reach(tab, LISTED, [*wanted])


async def test_hundreds_are_listed_as_one_scrolls_and_only_those_in_view_are_asked_for(
    tab: Tab, service: Service, ledger: SqlLedger
) -> None:
    await service.draw()
    await copy(ledger, 299)
    await tab.open("/requests")
    await tab.page.locator(".thumb img").first.wait_for()
    await reach(tab, IDLE)
    asked = {url for url in tab.urls if "/queue/requests/" in url}
    assert 10 <= len(asked) <= 30 < await rows(tab).count() < 300
    await scroll(tab, 300)
    ids = await rows(tab).evaluate_all("all => all.map((row) => row.entry.request_id)")
    assert (len(ids), len({*ids})) == (300, 300)
    assert ids[:2] == ["copy-298", "copy-297"]
    await rows(tab).last.locator(".thumb img").wait_for()
    assert await tab.page.get_by_role("button", name="Older ones").count() == 0


async def scroll(tab: Tab, count: int) -> None:
    """To the end, again and again until there are so many."""
    end = "count => (scrollTo(0, document.body.scrollHeight), document.querySelectorAll('fs-request').length >= count)"
    await reach(tab, end, count, within_s=LONG_S)
    await tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")


@pytest.mark.long
async def test_ten_thousand_scroll(tab: Tab, service: Service, ledger: SqlLedger) -> None:
    await service.draw()
    await copy(ledger, 9_999)
    await tab.open("/requests")
    await scroll(tab, 10_000)
    # what is far from the view is not drawn, and not asked for
    drawn = """all => all.filter((row) => row.checkVisibility({ contentVisibilityAuto: true })).length"""
    assert await rows(tab).evaluate_all(drawn) <= 500
    assert len({url for url in tab.urls if "/queue/requests/" in url}) < 5_000


async def test_details_tell_all_of_a_request(tab: Tab, service: Service, runner: PaintingRunner) -> None:
    runner.note = "Prompt: a red cube, vivid\nsharp"
    request_id = await service.draw(negative_prompt="fog", num_images=2, seed=LARGE, image_size="square")
    await tab.open("/requests")
    dialog = await details(tab)
    assert await tab.pictures() == [SIDE, SIDE]
    told = await dialog.locator(".facts").all_inner_texts()
    assert "a red cube, vivid\nsharp" in told[0]
    assert all(each in told[1] for each in ("negative_prompt", "fog", "num_images", "image_size", "square"))
    assert f"{LARGE}, {LARGE + 1}" in told[2]
    assert all(each in told[2] for each in ("Waited", "Drawn in", "inference", request_id))
    assert "Prompt: a red cube, vivid" in await dialog.locator(".log").inner_text()
    await dialog.get_by_role("button", name="Picture 2 in full").click()
    await tab.page.get_by_text("2 of 2").wait_for()
    await tab.page.keyboard.press("Escape")
    await tab.page.get_by_text("2 of 2").wait_for(state="hidden")
    await dialog.get_by_role("link", name="Open in the playground").click()
    await tab.page.wait_for_url(f"**/models/{FAST}?request={request_id}")
    await tab.state("done")


@pytest.mark.long
async def test_an_error_is_told_in_full(tab: Tab, service: Service) -> None:
    await service.fail("a tiny one", "Too small by far.")
    await tab.open("/requests")
    dialog = await details(tab)
    fault = await dialog.locator(".fault").inner_text()
    assert "image_too_small: " in fault
    assert '"type": "image_too_small"' in fault


async def form(tab: Tab) -> Any:
    await tab.page.locator("[data-ready] fs-form").wait_for()
    return await tab.page.evaluate("document.querySelector('fs-form').value")


async def test_a_remix_takes_all_or_a_part_into_the_form(tab: Tab, service: Service) -> None:
    await service.draw(seed=11, num_images=2)
    draft = '{"prompt": "other", "guidance_scale": 3}'
    for part, taken in {
        "Remix all": {"prompt": "a red cube", "seed": 11, "num_images": 2},
        "Prompt only": {"prompt": "a red cube", "guidance_scale": 3},
        "Seed only": {"prompt": "other", "seed": 11, "guidance_scale": 3},
    }.items():
        await tab.open("/requests")
        await tab.page.evaluate(f"sessionStorage.setItem('fooocus.draft.{FAST}', '{draft}')")
        await (await details(tab)).get_by_role("button", name=part).click()
        await tab.page.wait_for_url(f"**/models/{FAST}")
        assert await form(tab) == taken


@pytest.mark.long
async def test_a_remix_goes_without_pictures_that_are_not_kept(tab: Tab, service: Service) -> None:
    await service.draw(endpoint=f"{FAST}/image-to-image", image_url=PIXEL)
    await tab.open("/requests")
    dialog = await details(tab)
    await dialog.get_by_text("Pictures that came inside the request are not kept").wait_for()
    await dialog.get_by_role("button", name="Remix all").click()
    await tab.page.wait_for_url("**/image-to-image")
    assert await form(tab) == {"prompt": "a red cube", "seed": 7}


async def test_a_request_is_deleted_with_its_pictures_when_that_is_confirmed(
    tab: Tab, service: Service, parts: Parts
) -> None:
    kept, gone = await service.draw("kept"), await service.draw("gone")
    await tab.open("/requests")
    dialog = await details(tab)
    question = tab.page.get_by_role("dialog", name="Delete this request?")
    await dialog.get_by_role("button", name="Delete …").click()
    await question.get_by_role("button", name="Keep it").click()
    assert await rows(tab).count() == 2
    await dialog.get_by_role("button", name="Delete …").click()
    await question.get_by_role("button", name="Delete", exact=True).click()
    await dialog.wait_for(state="hidden")
    assert await words(tab) == ["kept"]
    assert await rows(tab).locator(".entry").evaluate("each => each === document.activeElement")
    assert await parts.files.stat(f"outputs/{gone}/0.png") is None
    assert await parts.files.stat(f"outputs/{kept}/0.png") is not None


@pytest.mark.long
async def test_a_deletion_that_fails_says_so(tab: Tab, service: Service) -> None:
    request_id = await service.draw()
    await tab.open("/requests")
    await (await details(tab)).get_by_role("button", name="Delete …").click()
    await service.delete(request_id)  # meanwhile, by somebody else
    tab.refused = 404
    question = tab.page.get_by_role("dialog", name="Delete this request?")
    await question.get_by_role("button", name="Delete", exact=True).click()
    await question.get_by_text("Request not found").wait_for()


@pytest.mark.long
async def test_two_are_compared_by_what_differs(tab: Tab, service: Service) -> None:
    await service.draw("a red cube", guidance_scale=3)
    await service.draw("a red ball", guidance_scale=3, num_images=2)
    await service.draw("a green one")
    await tab.open("/requests")
    for row in (0, 1, 2):  # the first mark gives way to the third
        await rows(tab).nth(row).get_by_role("checkbox").check()
    assert await rows(tab).get_by_role("checkbox").evaluate_all("all => all.map((each) => each.checked)") == [
        False,
        True,
        True,
    ]
    await tab.page.get_by_role("button", name="Compare").click()
    table = tab.page.locator(".compared table")
    await table.wait_for()
    found = await table.locator("tbody tr").evaluate_all(
        "all => all.map((row) => [...row.cells].map((c) => c.innerText))"
    )
    differing = {name: values for name, *values in found}
    assert differing["prompt"] == ["a red cube", "a red ball"]
    assert differing["num_images"] == ["not sent", "2"]
    assert {"guidance_scale", "seed", "endpoint"}.isdisjoint(differing)
    assert await tab.pictures() == [SIDE] * 3


async def test_texts_that_look_like_html_stay_texts(tab: Tab, service: Service, runner: PaintingRunner) -> None:
    runner.note = f"Prompt: {EVIL}"
    await service.draw(EVIL, negative_prompt=EVIL)
    await service.fail(f"{EVIL}2", EVIL)
    await tab.open("/requests")
    assert (await words(tab))[1] == EVIL
    for row in (0, 1):
        dialog = await details(tab, row)
        assert EVIL in await dialog.inner_text()
        await dialog.get_by_role("button", name="Close").first.click()
        await rows(tab).nth(row).get_by_role("checkbox").check()
    await tab.page.get_by_role("button", name="Compare").click()
    await tab.page.locator(".compared table").wait_for()
    assert await tab.page.evaluate("document.body.dataset.broken") is None
    assert await tab.page.locator('img[src="x"]').count() == 0


async def test_it_goes_by_keyboard_alone(tab: Tab, service: Service) -> None:
    await service.draw("first")
    await service.draw("second")
    await tab.open("/requests")
    assert await words(tab) == ["second", "first"]
    keys = tab.page.keyboard
    await tab.page.get_by_label("State").focus()
    for key in ("Tab", "Space", "Tab", "ArrowDown", "Shift+Tab", "Space"):  # marks, and goes by rows
        await keys.press(key)
    await tab.page.get_by_text("Two requests are marked.").wait_for()
    for key in ("Tab", "Tab", "Enter"):
        await keys.press(key)
    await tab.page.locator(".compared table").wait_for()
    await keys.press("Escape")
    await tab.page.locator(".compared").wait_for(state="hidden")
    for key in ("Shift+Tab", "Enter"):
        await keys.press(key)
    await tab.page.locator("dialog.details .facts").first.wait_for()
    await keys.press("Escape")
    assert await rows(tab).last.locator(".entry").evaluate("each => each === document.activeElement")


@pytest.mark.long
@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
async def test_axe_finds_no_serious_fault_on_a_narrow_screen(tab: Tab, service: Service) -> None:
    await service.fail("a tiny one", "Too small.")
    await service.draw()
    await tab.page.set_viewport_size({"width": 360, "height": 740})
    await tab.open("/requests")
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    await words(tab)
    for row in (0, 1):
        await rows(tab).nth(row).get_by_role("checkbox").check()
    faults = await judged_in_both(tab)
    for row in (0, 1):
        dialog = await details(tab, row)
        faults += await judged_in_both(tab)
        await dialog.get_by_role("button", name="Close").first.click()
    await tab.page.get_by_role("button", name="Compare").click()
    await tab.page.locator(".compared table").wait_for()
    faults += await judged_in_both(tab)
    assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert faults == []


async def test_with_keys_a_second_tab_stops_what_the_first_began(
    locked: Parts, keys: SqlKeys, tabs: Any, dispatched: None, runner: PaintingRunner
) -> None:
    runner.gate.clear()
    made = await keys.create("me", {Scope.RUN, Scope.STORAGE}, KeyLimits())
    async with serving(locked) as server:
        first = await tabs(server)
        first.refused = 401
        await first.open()
        await first.ask("a red cube")
        await first.enter(made.credentials)
        await first.state("running")
        second = await tabs(server)
        second.refused = 401
        await second.page.goto(f"{server}/requests")
        await second.enter(made.credentials)
        assert await words(second) == ["a red cube"]
        assert await second.page.locator(".outcome").text_content() == "drawing"
        first.refused = 499  # the result of what was cancelled
        await second.page.get_by_role("button", name="Stop", exact=True).click()
        await second.page.locator(".outcome", has_text="stopped").wait_for()
        await first.page.bring_to_front()
        await first.state("stopped")
        await until(runner.all_left)
