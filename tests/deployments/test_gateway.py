"""The Gateway as a plain class: where it may listen, and what it leaves behind."""

import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from deployments import gateway as module
from deployments.binding import check_host
from deployments.gateway import Door, Gateway, door_of
from gateway.errors import StoreUnavailable
from gateway.files.store import FileStore
from gateway.files.upload_quota import UploadAccount
from gateway.ledger.database import Database
from gateway.monitoring.contract import STORE_UP, Metric
from gateway.settings import GatewaySettings
from pipelines.catalogue import Catalogue, FamilyFile
from pipelines.prompts.limits import PromptLimits
from pipelines.settings import DrawingSettings
from tests.gateway.fakes import until
from tests.gateway.monitors import RememberingMonitor

ROOT = Path(__file__).parents[2]


Opened = Callable[[GatewaySettings, Callable[[], Door]], Awaitable[Any]]


def door(folder: Path, **has: Any) -> Door:
    """To a family of a checkpoint and no tokenizers."""
    return Door(PromptLimits([]), Catalogue(folder, FamilyFile(name="toy", version="1", checkpoint=".", **has)))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a Gateway as a plain object, without a dispatcher."""
    monkeypatch.setattr(module, "_check_binding", lambda settings: None)
    monkeypatch.setattr(module, "log_as_serve_does", lambda: None)  # this process is not its alone

    async def open_gateway(settings: GatewaySettings, open_door: Callable[[], Door]) -> Any:
        gateway: Any = Gateway.__new__(Gateway)
        await gateway.__init__(settings, open_door, None)
        return gateway

    return open_gateway


@asynccontextmanager
async def client_of(gateway: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Talks to its app while that lives."""
    app = gateway.__serve_build_asgi_app__()
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost") as client,
    ):
        yield client


@pytest.mark.parametrize("host", [None, "localhost", "127.0.0.1", "127.0.0.2", "::1"])
def test_this_machine_may_be_served(host: str | None) -> None:
    check_host(host, keys_required=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_machines_may_not_and_the_reason_is_told(host: str) -> None:
    with pytest.raises(ValueError, match="API keys"):
        check_host(host, keys_required=False)
    check_host(host, keys_required=True)


async def test_it_builds_its_app_and_closes_its_ledger(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await opened(GatewaySettings(data_dir=tmp_path, keys="required"), partial(door, tmp_path))
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


async def test_what_it_lets_be_uploaded_is_bounded_in_its_ledger(tmp_path: Path, opened: Opened) -> None:
    settings = GatewaySettings(data_dir=tmp_path, uploads_of_key=1)
    gateway = await opened(settings, partial(door, tmp_path))
    async with client_of(gateway) as client:
        answers = [await client.post("/cdn/files/upload", content=b"x") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 403]
        again = UploadAccount(gateway._ledger.database, settings)
        assert await again.counts(urlsplit(answers[0].json()["access_url"]).path.removeprefix("/cdn/files/"))


async def test_prompts_are_counted_as_the_familys_tokenizers_do(
    tmp_path: Path, opened: Opened, pocket_family_folder: Path
) -> None:
    drawing = DrawingSettings(family=pocket_family_folder, max_prompt_chunks=9)
    gateway = await opened(GatewaySettings(data_dir=tmp_path), partial(door_of, drawing))
    long = {"prompt": "\n".join("a" * 9), "negative_prompt": "😀" * 10_000, "styles": []}
    heavy = {"prompt": "(a:1e308)", "negative_prompt": "(a:-1e308)", "styles": []}
    async with client_of(gateway) as client:
        for door in ("/run", "/queue"):
            answer = await client.post(f"{door}/fal-ai/fooocus", json=long)
            (entry,) = answer.json()["detail"]
            assert answer.status_code == 422
            assert (entry["type"], entry["loc"]) == ("sequence_too_long", ["body", "negative_prompt"])
            assert entry["ctx"] == {"max_length": 9}
            assert "534 chunks" in entry["msg"]
            answer = await client.post(f"{door}/fal-ai/fooocus", json=heavy)
            assert [entry["type"] for entry in answer.json()["detail"]] == ["less_than_equal", "greater_than_equal"]


async def test_an_operators_styles_and_wildcards_are_known_at_the_door(
    tmp_path: Path, opened: Opened, pocket_family_folder: Path
) -> None:
    for name, content in {
        "s/house.json": '[{"name": "house-look", "prompt": "house"}]',
        "w/self.txt": "__self__",
    }.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content)
    drawing = DrawingSettings(
        family=pocket_family_folder, styles_folder=tmp_path / "s", wildcards_folder=tmp_path / "w"
    )
    gateway = await opened(GatewaySettings(data_dir=tmp_path), partial(door_of, drawing))
    async with client_of(gateway) as client:
        for styles in (["House Look", "Random Style", "Fooocus V2"], []):
            assert (await client.post("/queue/fal-ai/fooocus", json={"prompt": "a", "styles": styles})).is_success
        answer = await client.post("/queue/fal-ai/fooocus", json={"styles": ["Their Look"]})
        (entry,) = answer.json()["detail"]
        assert (entry["type"], entry["loc"]) == ("one_of", ["body", "styles", 0])
        assert {"House Look", "Random Style", "SAI Anime"} <= set(entry["ctx"]["expected"])
        for prompt, type_ in (("__self__", "value_error"), ("<lora:no-such:1>", "feature_not_supported")):
            answer = await client.post("/queue/fal-ai/fooocus", json={"prompt": prompt})
            (entry,) = answer.json()["detail"]
            assert (answer.status_code, entry["type"], entry["loc"]) == (422, type_, ["body", "prompt"])


async def test_a_family_of_a_checkpoint_alone_refuses_by_part_and_says_what_it_lacks(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOOOCUS_FAMILIES", str(tmp_path))
    (tmp_path / "toy").mkdir()
    gateway = await opened(GatewaySettings(data_dir=tmp_path), partial(door, tmp_path / "toy"))
    async with client_of(gateway) as client:
        answer = await client.post("/queue/fal-ai/fooocus", json={"enable_safety_checker": True})
        told = {entry["loc"][-1]: entry["msg"] for entry in answer.json()["detail"]}
        assert set(told) == {"performance", "enable_safety_checker"}
        assert "`python -m models pull lcm_lora --family toy`" in told["performance"]
        assert "`python -m models pull safety_checker --family toy --accept-unpinned`" in told["enable_safety_checker"]
        assert str(tmp_path) not in answer.text
        answer = await client.post("/queue/fal-ai/fooocus", json={"performance": "Speed"})
        assert answer.status_code == 200
        assert "enable_safety_checker, loras" in answer.headers["x-fooocus-inactive"]
        assert "styles" in answer.headers["x-fooocus-inactive"]
        page = (await client.get("/")).text
        assert "python -m models pull cpds --family toy" in page
        assert "python -m models pull lightning_lora --family toy" in page
        assert "Pictures are not checked" in page


def test_the_pocket_family_lacks_what_it_has_no_miniature_of(pocket_family_folder: Path) -> None:
    assert {*door_of(DrawingSettings(family=pocket_family_folder)).family.missing} == {"face_detector", "interposer"}


def test_counting_needs_neither_torch_nor_transformers(pocket_family_folder: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from deployments.gateway import door_of\n"
        "from gateway.errors import ValidationErrors\n"
        "from pipelines.settings import DrawingSettings\n"
        "from pipelines.spec import Spec\n"
        f"door = door_of(DrawingSettings(family=Path({str(pocket_family_folder)!r})))\n"
        "spec = Spec(prompt='(a:1e9)', seeds=(1,), steps=1, sampler='lcm', schedule='lcm')\n"
        "try: door.check(spec)\n"
        "except ValidationErrors as fault: assert 'weight' in str(fault)\n"
        "else: raise AssertionError\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(("store", "kind"), [("files", FileStore), ("ledger", Database)])
async def test_a_gauge_says_which_stores_can_be_written(
    tmp_path: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, store: str, kind: type
) -> None:
    told: list[tuple[float, dict[str, str]]] = []

    class Monitor(RememberingMonitor):
        def set(self, metric: Metric, value: float, **labels: str) -> None:
            assert metric == STORE_UP
            told.append((value, labels))

    async def away(self: object) -> None:
        raise StoreUnavailable(store)

    monkeypatch.setattr(module, "RayMonitor", Monitor)
    monkeypatch.setattr(kind, "check", away)
    gateway = await opened(GatewaySettings(data_dir=tmp_path), partial(door, tmp_path))

    async def both() -> bool:
        return len(told) >= 2

    async with client_of(gateway):
        await until(both)
    assert {tags["store"]: value for value, tags in told} == {"files": 1.0, "ledger": 1.0, store: 0.0}


async def test_its_limits_change_while_it_answers(tmp_path: Path, opened: Opened) -> None:
    gateway = await opened(GatewaySettings(data_dir=tmp_path), partial(door, tmp_path))
    plain = {"prompt": "a cube", "performance": "Speed"}

    async def submitted(client: httpx2.AsyncClient) -> int:
        return (await client.post("/queue/fal-ai/fooocus", json=plain)).status_code

    async with client_of(gateway) as client:
        await gateway.reconfigure({"max_waiting": 1})
        assert [await submitted(client) for _ in range(2)] == [200, 429]
        await gateway.reconfigure({"max_body_bytes": 10})
        assert await submitted(client) == 413
        await gateway.reconfigure({})
        assert await submitted(client) == 200
        with pytest.raises(
            ValueError, match=r"user_config of Gateway is wrong: max_wating: .*did you mean max_waiting"
        ):
            await gateway.reconfigure({"max_wating": 1})
        assert await submitted(client) == 200
