"""The app with a runner that draws pictures, behind a real server, and a browser before it."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from gateway.app import Parts
from gateway.errors import ModelError
from gateway.settings import GatewaySettings
from tests.gateway.fakes import FAST
from tests.gateway.http.conftest import (  # noqa: F401 (fixtures)
    client,
    dispatch,
    dispatched,
    dispatcher,
    keys,
    locked,
    parts,
    server,
    serving,
)
from tests.gateway.playground.painting import PaintingRunner

PAUSE_S = 0.05
BROWSER = "chromium"
START_S = 60
WAIT_S = 60  # at most; a machine that does much else is slow
# for a page to run first: which addresses of objects it has made and not let go of, and how many it has made
COUNTED = """
  window.alive = new Set();
  window.made = 0;
  const { createObjectURL: make, revokeObjectURL: revoke } = URL;
  URL.createObjectURL = (object) => {
    const url = make.call(URL, object);
    window.alive.add(url);
    window.made += 1;
    return url;
  };
  URL.revokeObjectURL = (url) => {
    window.alive.delete(url);
    revoke.call(URL, url);
  };
"""
# a page comes into view, or goes out of it
SEEN = """seen => {
  Object.defineProperty(document, "visibilityState", { value: seen, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    """With time for what is held while a slow browser goes on."""
    return settings.model_copy(update={"run_timeout_s": WAIT_S})


@pytest.fixture
def runner(parts: Parts) -> PaintingRunner:  # noqa: F811
    return PaintingRunner(parts.files, steps=3, pause_s=PAUSE_S)


@pytest.fixture(scope="session")
def browser_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a headless Chromium of this machine is spoken to; it lives as long as the tests."""
    program = shutil.which(BROWSER)
    if program is None:
        pytest.skip(f"there is no {BROWSER}: on Debian `apt-get install {BROWSER}` brings it")
    command = [
        *(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
        *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update"),
        *(f"--user-data-dir={tmp_path_factory.mktemp('browser')}", "about:blank"),
    ]
    log = tmp_path_factory.mktemp("log") / "chromium.log"
    with log.open("wb") as said, subprocess.Popen(command, stderr=said, stdout=said) as browser:
        try:
            yield _told(browser, log)
        finally:
            browser.terminate()


def _told(browser: subprocess.Popen[bytes], log: Path) -> str:
    """The address that the browser prints as soon as it listens."""
    for _ in range(START_S * 10):
        if found := re.search(r"DevTools listening on (ws://\S+)", log.read_text(errors="replace")):
            return found[1]
        if browser.poll() is not None:
            break
        try:
            browser.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    pytest.fail(f"{BROWSER} does not start: {log.read_text(errors='replace')[-2000:]}")


DROP = """(field, [bytes, name]) => {
  const given = new DataTransfer();
  given.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  field.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
}"""


class Tab:
    """A page of a browser, and what it did that it should not: errors in its console, requests to elsewhere.

    refused: a status that is expected, of which a browser writes into its console by itself. sent: the inputs.
    """

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.refused = 0
        self.errors: list[str] = []
        self.urls: list[str] = []
        self.sent: list[Any] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._saw)

    def _said(self, message: Any) -> None:
        if message.type == "error" and f"status of {self.refused} " not in message.text:
            self.errors.append(message.text)

    def _saw(self, request: Any) -> None:
        self.urls.append(request.url)
        if request.method == "POST" and "/fal-ai/" in request.url:
            self.sent.append(request.post_data_json)

    @property
    def foreign(self) -> list[str]:
        """Addresses of other origins that it asked for."""
        asked = (url for url in self.urls if urlsplit(url).scheme in ("http", "https"))
        return [url for url in asked if not url.startswith(f"{self.address}/")]

    async def open(self, path: str = "/") -> None:
        await self.page.goto(f"{self.address}{path}")
        await self.page.locator("[data-ready]").wait_for(state="attached")

    def field(self, name: str) -> Any:
        return self.page.locator(f'fs-field[data-name="{name}"]').first

    async def ask(self, prompt: str) -> None:
        """Type a prompt and press Enter."""
        await self.field("prompt").locator("textarea").fill(prompt)
        await self.page.keyboard.press("Enter")

    async def unfold(self) -> None:
        """Open all sections of the form."""
        await self.page.evaluate("document.querySelectorAll('details.section').forEach((each) => (each.open = true))")

    async def drop(self, onto: str, content: bytes, name: str) -> None:
        """Drop a PNG file onto what this selector finds."""
        await self.page.locator(onto).first.evaluate(DROP, [[*content], name])

    async def enter(self, credentials: str) -> None:
        """Give the dialog that asks for a key this one."""
        dialog = self.page.get_by_role("dialog", name="Your API key")
        await dialog.get_by_label("Key", exact=True).fill(credentials)
        await dialog.get_by_role("button", name="Use this key").click()

    async def state(self, state: str) -> None:
        """Wait until what is drawn is in this state."""
        await self.page.locator(f'fs-drawing[data-state="{state}"]').wait_for()

    async def pictures(self) -> list[int]:
        """How wide those are that are shown."""
        widths = "all => Promise.all(all.map((img) => img.decode().then(() => img.naturalWidth)))"
        found: list[int] = await self.page.locator("fs-pictures figure img").evaluate_all(widths)
        return found


class Service:
    """The service as a program calls it: what it asks for is in the history."""

    def __init__(self, calls: httpx2.AsyncClient, runner: PaintingRunner) -> None:
        self._calls, self._runner = calls, runner

    async def draw(self, prompt: str = "a red cube", endpoint: str = FAST, **more: Any) -> str:
        """The id of a request that has ended, well or not."""
        answer = await self._calls.post(f"/run/{endpoint}", json={"prompt": prompt, "seed": 7, **more})
        return str(answer.headers["x-fal-request-id"])

    async def fail(self, prompt: str, said: str) -> str:
        self._runner.faults[prompt] = ModelError("image_too_small", said)
        return await self.draw(prompt)

    async def wait(self, prompt: str) -> str:
        """The id of a request that has not ended."""
        answer = await self._calls.post(f"/queue/{FAST}", json={"prompt": prompt})
        return str(answer.json()["request_id"])

    async def delete(self, request_id: str) -> None:
        assert (await self._calls.delete(f"/queue/requests/{request_id}")).status_code == 200


def rows(tab: Tab) -> Any:
    return tab.page.locator("fs-request")


async def reach(tab: Tab, script: str, *given: Any, within_s: float = WAIT_S) -> None:
    """Wait until a function of the page says so; the policy of the pages lets none wait there."""
    async with asyncio.timeout(within_s):
        while True:
            if await tab.page.evaluate(script, *given):
                return
            await asyncio.sleep(0.02)


async def words(tab: Tab) -> list[str]:
    """What the rows in view say, once all say it."""
    await rows(tab).first.wait_for()
    await reach(tab, "() => [...document.querySelectorAll('.words')].every((each) => each.textContent !== '…')")
    found: list[str] = await tab.page.locator(".words").all_text_contents()
    return found


async def details(tab: Tab, row: int = 0) -> Any:
    await rows(tab).nth(row).locator(".entry").click()
    dialog = tab.page.locator("dialog.details[open]")
    await dialog.locator(".facts").first.wait_for()
    return dialog


@pytest.fixture
async def tabs(browser_address: str) -> AsyncIterator[Any]:
    """Opens tabs at servers; each must have kept to its own origin, and its console empty, when the test ends."""
    from playwright.async_api import async_playwright

    opened: list[Tab] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(browser_address)
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(WAIT_S * 1000)

        async def new(address: str) -> Tab:
            opened.append(Tab(await context.new_page(), address))
            return opened[-1]

        yield new
        await context.close()
    assert [tab.foreign for tab in opened if tab.foreign] == []
    assert [tab.errors for tab in opened if tab.errors] == []


@pytest.fixture
async def tab(server: str, tabs: Any) -> Tab:  # noqa: F811 (the server first: it is to outlive its tabs)
    found: Tab = await tabs(server)
    return found


@pytest.fixture
async def service(
    server: str,  # noqa: F811
    runner: PaintingRunner,
    dispatched: None,  # noqa: F811
) -> AsyncIterator[Service]:
    runner.pause_s = 0
    async with httpx2.AsyncClient(base_url=server, timeout=30) as calls:
        yield Service(calls, runner)
