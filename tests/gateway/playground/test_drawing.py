"""Pictures are drawn from the page, in a real browser."""

import pytest

from tests.gateway.fakes import until
from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.painting import SIDE, PaintingRunner


async def test_a_prompt_and_enter_draw_the_first_picture(tab: Tab, dispatched: None) -> None:
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("done")
    assert await tab.pictures() == [SIDE]
    assert tab.sent == [{"prompt": "a red cube"}]
    assert await tab.page.locator(".log li").first.text_content() == "Steps are drawn."


async def test_previews_are_shown_to_who_watches(tab: Tab, dispatched: None, runner: PaintingRunner) -> None:
    runner.pause_s = 0.5
    await tab.open("/models/fal-ai/fast-fooocus-sdxl")
    await tab.page.get_by_text("Watch it being drawn").click()
    await tab.field("num_images").locator("input[type=number]").fill("2")
    await tab.ask("a red cube")
    await tab.page.locator("img.preview").nth(1).wait_for()
    assert "of 3" in (await tab.page.locator(".state").text_content())
    await tab.state("done")
    assert await tab.pictures() == [SIDE, SIDE]


async def test_stop_ends_a_request_that_is_drawn(tab: Tab, dispatched: None, runner: PaintingRunner) -> None:
    runner.gate.clear()
    tab.refused = 499  # the result of what was cancelled
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("running")
    await tab.page.get_by_role("button", name="Stop").click()
    await tab.state("stopped")
    await until(runner.all_left)


@pytest.mark.long
async def test_stop_ends_a_request_that_is_watched(tab: Tab, dispatched: None, runner: PaintingRunner) -> None:
    runner.pause_s = 60
    await tab.open()
    await tab.page.get_by_text("Watch it being drawn").click()
    await tab.ask("a red cube")
    await tab.state("running")
    await tab.page.get_by_role("button", name="Stop").click()
    await tab.state("stopped")
    await until(runner.all_left)


async def test_a_reload_finds_the_request_and_the_form_again(
    tab: Tab, dispatched: None, runner: PaintingRunner
) -> None:
    runner.gate.clear()
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("running")
    await tab.page.reload()
    await tab.state("running")
    assert await tab.field("prompt").locator("textarea").input_value() == "a red cube"
    runner.gate.set()
    await tab.state("done")
    assert await tab.pictures() == [SIDE]
    assert len(tab.sent) == 1


@pytest.mark.long
async def test_an_address_leads_to_what_was_drawn_and_asked(tab: Tab, dispatched: None) -> None:
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("done")
    path = tab.page.url.removeprefix(tab.address)
    await tab.page.evaluate("sessionStorage.clear()")
    await tab.open(path)
    await tab.state("done")
    assert await tab.pictures() == [SIDE]
    assert await tab.field("prompt").locator("textarea").input_value() == "a red cube"


async def test_a_fault_is_shown_at_its_field(tab: Tab) -> None:
    await tab.open()
    await tab.page.locator("summary", has_text="Advanced").click()
    await tab.field("guidance_scale").locator("input[type=number]").fill("99")
    await tab.page.locator("summary", has_text="Advanced").click()
    tab.refused = 422
    await tab.ask("a red cube")
    await tab.state("failed")
    error = tab.field("guidance_scale").locator(".error")
    await error.wait_for()  # in a section that was folded
    assert "less than or equal to 30" in (await error.text_content())
    assert await tab.page.locator("fs-field .error:visible").count() == 1


@pytest.mark.long
async def test_the_full_view_goes_by_keys(tab: Tab, dispatched: None) -> None:
    await tab.open()
    await tab.field("num_images").locator("input[type=number]").fill("4")
    await tab.ask("a red cube")
    await tab.state("done")
    assert len(await tab.pictures()) == 4
    await tab.page.get_by_role("button", name="Picture 4 in full").press("Enter")
    said = tab.page.locator(".viewer p")
    assert (await said.text_content()).startswith("4 of 4")
    await tab.page.keyboard.press("ArrowRight")
    assert (await said.text_content()).startswith("1 of 4")
    await tab.page.keyboard.press("Escape")
    await said.wait_for(state="hidden")


async def test_a_picture_goes_on_to_another_endpoint(tab: Tab, dispatched: None) -> None:
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("done")
    await tab.page.get_by_text("Use as …").click()
    await tab.page.get_by_role("button", name="Inpaint", exact=True).click()
    await tab.page.wait_for_url("**/models/fal-ai/fooocus/inpaint")
    picture = tab.field("inpaint_image_url").locator("img")
    await picture.wait_for()
    assert await picture.evaluate("img => img.decode().then(() => img.naturalWidth)") == SIDE
    assert await tab.field("prompt").locator("textarea").input_value() == "a red cube"
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    assert tab.sent[1]["inpaint_image_url"].startswith(f"{tab.address}/files/outputs/")
