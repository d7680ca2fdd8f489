"""What the form shows of pictures that go in: what is read, what will grow, what they tell."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gateway.endpoints.fields import FACTOR, MAX_SIDE, MIN_SIDE
from gateway.images.codec import encode_image
from gateway.images.metadata import metadata
from gateway.settings import OutputSettings
from pipelines.images.area import area_of
from tests.gateway.images.test_metadata import PIXELS, making
from tests.gateway.playground.conftest import COUNTED, Tab
from tests.gateway.playground.test_metadata import saying
from tests.gateway.playground.test_painter import HEIGHT, WIDTH, picture

BOX = """(made) => {
  const [box, all] = [made.getBoundingClientRect(), made.previousElementSibling.getBoundingClientRect()];
  const parts = [box.left - all.left, box.top - all.top, box.width, box.height];
  return parts.map((each, at) => each / (at % 2 ? all.height : all.width));
}"""


async def outline(tab: Tab, name: str) -> Any:
    """Left, top, width and height of what is outlined, in pixels of the picture."""
    left, top, width, height = await tab.field(name).locator(".read").evaluate(BOX)
    return left * WIDTH, top * HEIGHT, width * WIDTH, height * HEIGHT


async def choose(tab: Tab, name: str, file: Any) -> None:
    await tab.field(name).locator("input[type=file]").first.set_input_files(file)
    await tab.field(name).get_by_text(file["name"], exact=True).wait_for()


@pytest.mark.long
async def test_the_area_round_a_mask_is_outlined(tab: Tab) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[20:60, 200:260] = 255
    file = BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    await tab.open("/models/fal-ai/fooocus/inpaint")
    await choose(tab, "inpaint_image_url", picture())
    await choose(tab, "mask_image_url", {"name": "mask.png", "mimeType": "image/png", "buffer": file.getvalue()})
    for mode, field in ((0, 0.618), (1, 0)):
        await tab.field("inpaint_mode").locator("select").select_option(index=mode)
        box = area_of(mask, field)
        await tab.field("inpaint_image_url").get_by_text(f"{box.width} × {box.height} of {WIDTH} × {HEIGHT}").wait_for()
        assert np.allclose(await outline(tab, "inpaint_image_url"), (box.left, box.top, box.width, box.height), atol=1)


@pytest.mark.long
async def test_the_cut_of_a_picture_of_edges_is_outlined(tab: Tab) -> None:
    await tab.open("/models/fal-ai/fooocus/image-prompt")
    await choose(tab, "image_prompt_1", picture())
    assert await tab.field("image_prompt_1").locator(".read").count() == 0  # looks are read whole
    await tab.field("image_prompt_1").get_by_text("PyraCanny").click()
    await tab.field("image_prompt_1").get_by_text(f"{HEIGHT} × {HEIGHT} of {WIDTH} × {HEIGHT}").wait_for()
    cut = (WIDTH - HEIGHT) / 2
    assert np.allclose(await outline(tab, "image_prompt_1"), (cut, 0, HEIGHT, HEIGHT), atol=1)


async def test_edges_of_a_picture_say_where_it_grows(tab: Tab, dispatched: None) -> None:
    await tab.open("/models/fal-ai/fooocus/inpaint")
    await tab.unfold()
    await choose(tab, "inpaint_image_url", picture())
    edges = tab.page.get_by_role("group", name="Sides at which the picture is continued")
    left, top = (edges.get_by_role("button", name=f"Continue the picture: {side}") for side in ("left", "top"))
    await left.click()
    await top.press("Space")
    box = tab.field("outpaint_selections").get_by_label("Left")
    assert await box.is_checked()
    await box.uncheck()
    await tab.page.locator('fs-edges .left[aria-pressed="false"]').wait_for()
    await tab.field("outpaint_selections").get_by_label("Bottom").check()
    pressed = edges.locator('[aria-pressed="true"]')
    await pressed.nth(1).wait_for()
    assert sorted(await pressed.all_inner_texts()) == ["Bottom", "Top"]
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    assert tab.sent[-1]["outpaint_selections"] == ["Top", "Bottom"]
    await tab.field("inpaint_mode").locator("select").select_option(index=1)  # which continues nothing
    await tab.page.locator("fs-edges .top:disabled").wait_for()


@pytest.mark.parametrize("onto", ["fs-form form", 'fs-field[data-name="control_image_url"] fs-image'])
async def test_a_dropped_picture_gives_its_settings(tab: Tab, dispatched: None, onto: str) -> None:
    made = replace(making(prompt="a lighthouse, at dusk"), size=(832, 1216), seed=2**62 + 1)
    content = encode_image(PIXELS, "png", OutputSettings(), metadata("fooocus", made))
    await tab.open("/models/fal-ai/fooocus")
    await tab.unfold()
    await tab.field("prompt").locator("textarea").fill("a red cube")
    await tab.drop(onto, content, "drawn.png")
    await tab.page.get_by_text("drawn.png says how it was drawn").wait_for()
    await tab.page.get_by_role("button", name="Take its settings").click()
    await tab.page.get_by_text("Taken: ").wait_for()
    await tab.page.get_by_role("button", name="Draw", exact=True).click()
    await tab.state("done")
    asked = tab.sent[-1]
    picture = asked.pop("control_image_url", "")  # of the field that it was dropped onto
    assert ("/files/uploads/" in picture) == onto.endswith("fs-image")
    assert asked == {
        "prompt": "a lighthouse, at dusk",
        "negative_prompt": "fog",
        "styles": ["SAI Anime", "MRE Comic"],
        "performance": "Speed",
        "aspect_ratio": "832x1216",
        "seed": 2**62 + 1,
        "loras": [{"path": "ink", "scale": 0.5}],
    }


async def take(tab: Tab, **told: Any) -> str:
    """Take the settings of a picture that tells these; what is said of it then."""
    await tab.drop("fs-form form", saying(json.dumps(told)), "told.png")
    await tab.page.get_by_role("button", name="Take its settings").click()
    await tab.page.get_by_text("Taken: ").wait_for()
    found: str = await tab.page.locator("fs-found").inner_text()
    return found


async def test_of_a_pictures_settings_those_are_taken_that_the_form_can_have(tab: Tab) -> None:
    await tab.open("/models/fal-ai/fooocus")
    said = await take(
        tab,
        prompt="a lighthouse",
        styles="['SAI Anime', 'Nobody']",
        performance="Slow",
        guidance_scale=99,
        sharpness=2.5,
        seed="7",
        refiner_model="None",
        loras=[["ink", 0.5], ["lora", 1]],
    )
    assert "Taken: prompt, seed, styles, loras, refiner_model, sharpness." in said
    assert (
        "Not taken, for it is not known here: Slow, Nobody, a LoRA of an address of its own, Guidance scale 99." in said
    )
    assert await tab.page.evaluate("document.querySelector('fs-form').value") == {
        "prompt": "a lighthouse",
        "styles": ["SAI Anime"],
        "sharpness": 2.5,
        "loras": [{"path": "ink", "scale": 0.5}],
        "seed": 7,
    }


@pytest.mark.long
async def test_a_size_that_cannot_be_drawn_is_not_taken(tab: Tab) -> None:
    await tab.open("/models/fal-ai/fooocus")
    for width, height in ((MAX_SIDE + FACTOR, MIN_SIDE), (MAX_SIDE, MIN_SIDE - FACTOR), (MAX_SIDE, MIN_SIDE + 1)):
        said = await take(tab, prompt="a lighthouse", resolution=f"({width}, {height})")
        assert f"not known here: {width} × {height}." in said
    assert "Taken: prompt, aspect_ratio." in await take(tab, prompt="a hill", resolution=f"({MAX_SIDE}, {MIN_SIDE})")


@pytest.mark.long
async def test_a_dropped_picture_that_tells_nothing_is_said_to(tab: Tab) -> None:
    await tab.open()
    await tab.drop("fs-form form", picture()["buffer"], "mute.png")
    await tab.page.get_by_text("mute.png does not say how it was drawn.").wait_for()


@pytest.mark.long
async def test_an_offer_of_settings_goes_with_its_picture(tab: Tab) -> None:
    content = encode_image(PIXELS, "png", OutputSettings(), metadata("fooocus", making()))
    await tab.open("/models/fal-ai/fooocus/inpaint")
    file = {"name": "drawn.png", "mimeType": "image/png", "buffer": content}
    await choose(tab, "inpaint_image_url", file)
    offer = tab.page.get_by_role("button", name="Take its settings")
    await offer.wait_for()
    await tab.field("inpaint_image_url").get_by_role("button", name="Remove").click()
    await offer.wait_for(state="detached")


@pytest.mark.long
async def test_files_that_are_no_more_shown_are_let_go(tab: Tab) -> None:
    await tab.page.add_init_script(COUNTED)
    await tab.open("/models/fal-ai/fooocus/inpaint")
    for name in ("one.png", "two.png"):
        await choose(tab, "inpaint_image_url", {**picture(), "name": name})
    image = tab.field("inpaint_image_url").locator("img").first
    assert await tab.page.evaluate("[...window.alive]") == [await image.get_attribute("src")]
    await tab.field("inpaint_image_url").get_by_role("button", name="Remove").click()
    assert await tab.page.evaluate("window.alive.size") == 0


@pytest.mark.long
async def test_what_helps_with_pictures_is_asked_for_anew_where_it_was_missing(tab: Tab) -> None:
    tab.refused = 404
    await tab.page.route("**/assistant.js", lambda route: route.fulfill(status=404), times=1)
    await tab.open("/models/fal-ai/fooocus/inpaint")
    await choose(tab, "inpaint_image_url", picture())
    await tab.page.get_by_text("What reads pictures could not be loaded").wait_for()
    await tab.field("inpaint_mode").locator("select").select_option(index=1)
    await tab.page.get_by_role("button", name="Paint the mask").wait_for()
