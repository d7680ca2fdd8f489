"""What people see: screenshots to look at, no serious fault for who uses aids, room on a narrow screen."""

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.painting import PaintingRunner
from tests.gateway.playground.test_pages import MOST_BYTES
from tests.gateway.playground.test_painter import Painting

ROOT = Path(__file__).resolve().parents[3]
SHOTS = ROOT / ".cache" / "playground"
AXE = ROOT / "tests" / "clients" / "node_modules" / "axe-core" / "axe.min.js"
# of the page and what it is made of; what it asks the service is data
FETCHED = """performance.getEntries()
  .filter(({ entryType, name }) => entryType === "navigation" || name.includes("/static/"))
  .map(({ name, decodedBodySize }) => [name, decodedBodySize])"""
JUDGED = """() => axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations
  .filter(({ impact }) => impact === "serious" || impact === "critical")
  .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`))"""


async def shoot(tab: Tab, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    await tab.page.screenshot(path=SHOTS / f"{name}.png")


@pytest.mark.long
async def test_six_states_are_there_to_be_looked_at(tab: Tab, dispatched: None, runner: PaintingRunner) -> None:
    await tab.open()
    await shoot(tab, "1-first")
    runner.gate.clear()
    await tab.field("num_images").locator("input[type=number]").fill("4")
    await tab.ask("a sun over hills, in the morning")
    await tab.state("running")
    await shoot(tab, "2-drawing")
    runner.gate.set()
    await tab.state("done")
    assert len(await tab.pictures()) == 4
    await tab.page.emulate_media(color_scheme="dark")
    await tab.page.reload()
    await tab.state("done")
    assert len(await tab.pictures()) == 4
    await shoot(tab, "3-drawn-dark")
    await tab.page.get_by_role("tab", name="Code").click()
    await shoot(tab, "4-code-dark")
    await tab.page.emulate_media(color_scheme="light")
    await tab.page.get_by_role("tab", name="API").click()
    await shoot(tab, "5-api")
    await tab.page.set_viewport_size({"width": 360, "height": 740})
    await tab.open("/models/fal-ai/fooocus/inpaint")
    await shoot(tab, "6-narrow")


async def test_what_a_browser_fetches_of_the_first_page_is_light(tab: Tab) -> None:
    await tab.open()
    fetched = dict(await tab.page.evaluate(FETCHED))
    assert {name.rpartition("/")[2] for name in fetched} >= {"", "main.js", "playground.js", "page.css"}
    assert not any(name.endswith(("/assistant.js", "/painter.js")) for name in fetched)
    assert min(fetched.values()) > 0
    assert sum(fetched.values()) < MOST_BYTES


@pytest.mark.parametrize(
    "path",
    [
        "/models/fal-ai/fooocus/image-prompt",
        pytest.param("/models/fal-ai/fooocus/inpaint#api", marks=pytest.mark.long),
        "/requests",
        "/status",
    ],
)
@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
async def test_a_narrow_screen_has_all_of_it_without_a_serious_fault(tab: Tab, path: str) -> None:
    await tab.page.set_viewport_size({"width": 360, "height": 740})
    await tab.open(path)
    assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    assert await judged(tab) == []


async def judged(tab: Any) -> list[str]:
    found: list[str] = await tab.page.evaluate(JUDGED)
    return found


async def judged_in_both(tab: Tab) -> list[str]:
    """In light and in dark colours."""
    faults = []
    for colours in ("light", "dark"):
        await tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
        faults += await judged(tab)
    return faults


@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
@pytest.mark.parametrize("colours", [pytest.param("light", marks=pytest.mark.long), "dark"])
async def test_axe_finds_no_serious_fault(tab: Tab, dispatched: None, colours: Any) -> None:
    await tab.page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    await tab.open("/models/fal-ai/fooocus/image-prompt")
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    await tab.page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    faults = await judged(tab)
    for name in ("Code", "API"):
        await tab.page.get_by_role("tab", name=name).click()
        faults += await judged(tab)
    await tab.open()
    await tab.ask("a red cube")
    await tab.state("done")
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    faults += await judged(tab)
    await tab.page.evaluate("location.hash = '#key'")
    await tab.page.get_by_role("dialog").wait_for()
    assert faults + await judged(tab) == []


@pytest.mark.long
@pytest.mark.skipif(not AXE.is_file(), reason="there is no axe-core: `npm --prefix tests/clients ci` brings it")
async def test_axe_finds_no_serious_fault_where_a_mask_is_painted(tab: Tab) -> None:
    await tab.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    await tab.page.set_viewport_size({"width": 360, "height": 740})
    painting = await Painting.begin(tab)
    await painting.opening.wait_for()
    await tab.page.evaluate(AXE.read_text(encoding="utf-8"))
    faults = await judged(tab)
    await painting.open()
    await painting.stroke((80, 60), (240, 120))
    await shoot(tab, "7-mask-narrow-dark")
    assert faults + await judged(tab) == []
    assert await tab.page.evaluate("document.documentElement.scrollWidth") <= 360
