"""The Gateway as a plain class: where it may listen, and what it leaves behind."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deployments import gateway as module
from deployments.binding import check_host
from deployments.gateway import Gateway
from deployments.graph import Stages
from gateway.settings import GatewaySettings
from pipelines.prompts.limits import PromptLimits


class Handle:
    """Of a stage that is not called here."""

    def options(self, **_: object) -> "Handle":
        return self


@pytest.mark.parametrize("host", [None, "localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_this_machine_may_be_served(host: str | None) -> None:
    check_host(host, keys_required=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_machines_may_not_and_the_reason_is_told(host: str) -> None:
    with pytest.raises(ValueError, match="API keys"):
        check_host(host, keys_required=False)
    check_host(host, keys_required=True)


async def test_it_builds_its_app_and_closes_its_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_check_binding", lambda settings: None)
    monkeypatch.setattr(module, "log_as_serve_does", lambda: None)  # this process is not its alone
    gateway: Any = Gateway.__new__(Gateway)
    stages = Stages(*[Handle()] * len(fields(Stages)))
    settings = GatewaySettings(data_dir=tmp_path, keys="required")
    await gateway.__init__(settings, lambda: PromptLimits([]), stages, None)
    closed: list[bool] = []
    close = gateway._ledger.close

    async def noted() -> None:
        closed.append(True)
        await close()

    monkeypatch.setattr(gateway._ledger, "close", noted)
    app = gateway.__serve_build_asgi_app__()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as client:
        assert (await client.post("/run/fal-ai/fooocus")).status_code == 401
    assert "/health" in {getattr(route, "path", None) for route in app.routes}
    async with app.router.lifespan_context(app):
        assert not closed
    assert closed
