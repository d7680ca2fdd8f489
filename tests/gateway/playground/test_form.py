"""The form sends what was set, of each kind of field."""

from typing import Any

import pytest

from tests.gateway.fakes import PIXEL
from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.painting import painted

LARGE = 2**62 + 1  # which a number of JavaScript cannot hold
PASTE = """([bytes, name]) => {
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
FILE = {"name": "hill.png", "mimeType": "image/png", "buffer": painted(3)}


async def sent(tab: Tab) -> Any:
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    return tab.sent[-1]


async def test_each_kind_of_field_of_fooocus_is_sent(tab: Tab, dispatched: None) -> None:
    await tab.open("/models/fal-ai/fooocus/inpaint")
    await tab.unfold()
    await tab.field("inpaint_image_url").locator("input[type=file]").first.set_input_files(FILE)
    await tab.field("inpaint_image_url").get_by_text("hill.png", exact=True).wait_for()
    await tab.field("mask_image_url").locator("input[type=text]").fill(PIXEL)
    await tab.field("prompt").locator("textarea").fill("a red cube")
    await tab.field("seed").locator("input").fill(str(LARGE))
    await tab.field("performance").get_by_text("Lightning").click()
    await tab.field("aspect_ratio").get_by_text("1152 × 896").click()
    await tab.field("inpaint_mode").locator("select").select_option(index=1)
    await tab.field("guidance_scale").locator("input[type=range]").fill("7.5")
    await tab.field("sync_mode").locator("input").click()
    await tab.field("outpaint_selections").get_by_text("Left").click()
    await tab.field("styles").locator("input[type=search]").fill("sai anime")
    await tab.field("styles").get_by_text("SAI Anime", exact=True).click()
    await tab.field("loras").get_by_role("button", name="Add to LoRAs").click()
    await tab.field("loras").locator('[data-name="path"] input').nth(1).fill("mine.safetensors")
    await tab.field("loras").locator('[data-name="scale"] input').nth(1).fill("0.5")
    await tab.field("image_prompt_2").locator("input[type=text]").fill("http://127.0.0.1:1/a.png")
    await tab.field("image_prompt_2").get_by_text("FaceSwap").click()
    await tab.page.keyboard.press("Tab")
    asked = await sent(tab)
    url = asked.pop("inpaint_image_url")
    assert "/files/uploads/" in url
    assert [each["path"].rpartition("/")[2] for each in asked.pop("loras")][1:] == ["mine.safetensors"]
    assert asked == {
        "prompt": "a red cube",
        "seed": LARGE,
        "performance": "Lightning",
        "aspect_ratio": "1152x896",
        "inpaint_mode": "Improve Detail (face, hand, eyes, etc.)",
        "guidance_scale": 7.5,
        "sync_mode": True,
        "outpaint_selections": ["Left"],
        "styles": ["Fooocus Enhance", "Fooocus V2", "Fooocus Sharp", "SAI Anime"],
        "mask_image_url": PIXEL,
        "image_prompt_2": {"type": "FaceSwap", "image_url": "http://127.0.0.1:1/a.png"},
    }


async def test_each_kind_of_field_of_the_fast_endpoints_is_sent(tab: Tab, dispatched: None) -> None:
    await tab.open("/models/fal-ai/fast-fooocus-sdxl/image-to-image")
    await tab.unfold()
    await tab.page.evaluate(PASTE, [[*painted(5)], "pasted.png"])
    await tab.field("image_url").get_by_text("pasted.png", exact=True).wait_for()
    await tab.field("prompt").locator("textarea").fill("a red cube")
    await tab.field("image_size").get_by_text("Own size").click()
    await tab.field("image_size").get_by_label("Width").fill("640")
    await tab.field("image_size").get_by_label("Height").fill("384")
    await tab.field("embeddings").get_by_role("button", name="Add to Embeddings").click()
    await tab.field("embeddings").locator('[data-name="path"] input').fill("word.safetensors")
    await tab.field("embeddings").locator('[data-name="tokens"] input').fill("<a>, <b>")
    asked = await sent(tab)
    assert "/files/uploads/" in asked.pop("image_url")
    assert asked == {
        "prompt": "a red cube",
        "image_size": {"width": 640, "height": 384},
        "embeddings": [{"path": "word.safetensors", "tokens": ["<a>", "<b>"]}],
    }


@pytest.mark.long
async def test_a_picture_is_taken_where_it_is_dropped(tab: Tab, dispatched: None) -> None:
    await tab.open("/models/fal-ai/fooocus/upscale-or-vary")
    await tab.drop('fs-field[data-name="uov_image_url"] fs-image', painted(4), "dropped.png")
    await tab.field("uov_image_url").get_by_text("dropped.png", exact=True).wait_for()
    assert "/files/uploads/" in (await sent(tab))["uov_image_url"]


async def test_texts_that_look_like_html_stay_texts(tab: Tab, dispatched: None, runner: Any) -> None:
    evil = "<img src=x onerror=\"document.body.dataset.broken='1'\">"
    runner.note = evil
    await tab.open("/models/fal-ai/fast-fooocus-sdxl")
    await tab.ask(evil)
    await tab.state("done")
    assert await tab.page.locator(".log li").first.text_content() == evil
    assert evil in await tab.page.locator(".facts").text_content()
    assert await tab.page.evaluate("document.body.dataset.broken") is None
    assert await tab.page.locator('img[src="x"]').count() == 0
