"""Programs that are copied from a page, run as their reader would run them, and guarded to loopback."""

import asyncio
import os
import sys
from pathlib import Path

from tests.gateway.playground.conftest import Tab

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ROOT / "tests" / "clients"
GUARD = """
import atexit, os
from tests.clients.guard import Guard
watching = Guard().recording()
seen = watching.__enter__()
atexit.register(lambda: seen and os._exit(97))
"""
SEED = 2**62 + 1  # which no double holds
PROMPT = "a 'red' \"cube\" \\ in $HOME\nNone, true: é"


async def code(tab: Tab, language: str) -> str:
    """The code of a request with texts that each language must quote."""
    await tab.open("/models/fal-ai/fast-fooocus-sdxl")
    await tab.field("prompt").locator("textarea").fill(PROMPT)
    await tab.unfold()
    await tab.field("enable_refiner").locator("input").click()
    await tab.field("seed").locator("input").fill(str(SEED))
    await tab.field("image_size").get_by_text("Landscape 4:3").click()
    await tab.page.get_by_role("tab", name="Code").click()
    await tab.page.get_by_role("button", name=language).click()
    found: str = await tab.page.locator("fs-code code").text_content()
    assert tab.address in found
    return found


async def said_by(*command: str, folder: Path, **environment: str) -> str:
    """What a program prints that ends well."""
    program = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "no_proxy": "*", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, wrong = await program.communicate()
    assert program.returncode == 0, wrong.decode()
    return out.decode()


async def run_python(tab: Tab, folder: Path) -> str:
    """What the page's program for Python prints."""
    (folder / "app.py").write_text(await code(tab, "Python"), encoding="utf-8")
    (folder / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    return await said_by(sys.executable, "app.py", folder=folder, PYTHONPATH=f"{folder}{os.pathsep}{ROOT}")


async def run_javascript(tab: Tab, folder: Path) -> str:
    """What the page's program for JavaScript prints."""
    (folder / "app.mjs").write_text(await code(tab, "JavaScript"), encoding="utf-8")
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    return await said_by("node", "--import", (CLIENTS / "guard.mjs").as_uri(), "app.mjs", folder=folder)
