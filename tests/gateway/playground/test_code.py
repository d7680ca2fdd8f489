"""The code of the request in the form runs as it is copied."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

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
    await tab.page.evaluate("document.querySelectorAll('details.section').forEach((each) => (each.open = true))")
    await tab.field("enable_refiner").locator("input").click()
    await tab.field("seed").locator("input").fill(str(SEED))
    await tab.field("image_size").get_by_text("Landscape 4:3").click()
    await tab.page.get_by_role("tab", name="Code").click()
    await tab.page.get_by_role("button", name=language).click()
    found: str = await tab.page.locator("fs-code code").text_content()
    assert tab.address in found
    return found


async def said_by(*command: str, folder: Path, **environment: str) -> str:
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


def drew(runner: Any) -> None:
    (work,) = runner.seen
    assert work.spec.prompt == PROMPT
    assert work.spec.seeds == (SEED,)
    assert work.spec.refiner is None
    assert (work.spec.size.width, work.spec.size.height) == (1024, 768)


async def test_curl(tab: Tab, dispatched: None, runner: Any, tmp_path: Path) -> None:
    said = await said_by("bash", "-c", await code(tab, "cURL"), folder=tmp_path)
    assert f"{tab.address}/files/outputs/" in said
    drew(runner)


@pytest.mark.clients
async def test_python(tab: Tab, dispatched: None, runner: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(await code(tab, "Python"), encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    said = await said_by(sys.executable, "app.py", folder=tmp_path, PYTHONPATH=path)
    assert said.startswith(f"{tab.address}/files/outputs/")
    drew(runner)


@pytest.mark.clients
@pytest.mark.skipif(not (CLIENTS / "node_modules").is_dir(), reason="`npm --prefix tests/clients ci` brings the client")
async def test_javascript(tab: Tab, dispatched: None, runner: Any, tmp_path: Path) -> None:
    (tmp_path / "app.mjs").write_text(await code(tab, "JavaScript"), encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    said = await said_by("node", "--import", (CLIENTS / "guard.mjs").as_uri(), "app.mjs", folder=tmp_path)
    assert said.startswith(f"{tab.address}/files/outputs/")
    drew(runner)
