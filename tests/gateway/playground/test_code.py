"""The code of the request in the form runs as it is copied."""

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.playground.conftest import Tab
from tests.gateway.playground.programs import CLIENTS, PROMPT, SEED, code, run_javascript, run_python, said_by


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
    said = await run_python(tab, tmp_path)
    assert said.startswith(f"{tab.address}/files/outputs/")
    drew(runner)


@pytest.mark.clients
@pytest.mark.skipif(not (CLIENTS / "node_modules").is_dir(), reason="`npm --prefix tests/clients ci` brings the client")
async def test_javascript(tab: Tab, dispatched: None, runner: Any, tmp_path: Path) -> None:
    said = await run_javascript(tab, tmp_path)
    assert said.startswith(f"{tab.address}/files/outputs/")
    drew(runner)
