"""`make serve`: what it serves with, and that our own process is asked whether it is ready."""

import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from deployments import serve_local
from deployments.certificate import certificate
from deployments.config_file import read
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings
from tests.cluster import free_port

ROOT = Path(__file__).parents[2]


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(params=["http", "https"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Ready)
    if request.param == "https":
        made = certificate(tmp_path, {"images.example.com"})
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.server)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"{request.param}://0.0.0.0:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_neither_a_proxy_nor_a_certificates_names_nor_a_wildcard_is_in_the_way(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(serve_local, "READY_TIMEOUT_S", 5.0)
    serve_local._wait_until_ready(address)


def test_who_does_not_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_local, "READY_TIMEOUT_S", 0.0)
    with pytest.raises(RuntimeError, match="/ready does not answer"):
        serve_local._wait_until_ready("http://127.0.0.1:9")


def given(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[tuple[object, ...]]:
    """What `main` serves with these arguments."""
    served: list[tuple[object, ...]] = []
    monkeypatch.setattr(serve_local, "serve", lambda *asked: served.append(asked))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["serve_local", *arguments])
    assert serve_local.main() == 0
    return served


@pytest.mark.parametrize(
    ("arguments", "config", "family"),
    [
        ((), "serve_config.local.yaml", None),
        (("--family", "default"), "serve_config.local.yaml", "default"),
        (("--device", "cuda", "--family", "default"), "serve_config.gpu.yaml", "default"),
        (("--config", "own.yaml"), "own.yaml", None),
    ],
    ids=str,
)
def test_a_device_has_its_config_file(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], config: str, family: str | None
) -> None:
    assert given(monkeypatch, *arguments) == [(Path(config), None, False, family, None)]


@pytest.mark.parametrize(
    ("variables", "arguments", "writes_pocket"),
    [
        ((), "--device cpu --port 8000", True),
        (("MODEL=default", "DEVICE=cuda"), "--device cuda --port 8000 --family default", False),
        (("MODEL=default", "PORT=9000"), "--device cpu --port 9000 --family default", False),
        (("CONFIG=own.yaml", "TLS=1"), "--config own.yaml --port 8000 --tls", True),
        (("HOST=192.168.1.5",), "--device cpu --port 8000 --host 192.168.1.5", True),
    ],
    ids=str,
)
def test_make_serve_hands_its_variables_on(variables: tuple[str, ...], arguments: str, writes_pocket: bool) -> None:
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "-n", "-W", "models/pocket/write.py", "serve", *variables]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"deployments.serve_local {arguments}" in " ".join(done.stdout.replace("\\\n", " ").split())
    assert ("models.pocket.write" in done.stdout) == writes_pocket


def test_the_family_of_the_command_line_takes_the_place_of_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOOOCUS_FAMILIES", "/data/families")
    settings = serve_local._with_family(read(ROOT / "serve_config.gpu.yaml").settings, "default")
    assert settings.drawing.family == Path("/data/families/default")
    assert settings.drawing.device == "cuda"


def test_a_family_that_is_not_there_is_one_line_with_its_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deployments.serve_local", "--family", "default", "--port", str(free_port())],
        cwd=ROOT,
        env={**os.environ, "FOOOCUS_FAMILIES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "`make pull MODEL=default ARGS=--accept-unpinned` brings it" in line


def test_a_family_that_is_no_preset_is_told_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`\.venv/bin/python -m models import FILE --name mine` makes one"):
        serve_local._check_family(tmp_path / "mine")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--port", "99999"), "'99999' is no port, which is a number from 1 to 65535: make serve PORT=9000"),
        (("--port", "abc"), "'abc' is no port, which is a number from 1 to 65535: make serve PORT=9000"),
        (("--port", "0"), "'0' is no port"),
        (("--device", "gpu"), "--device: invalid choice: 'gpu' (choose from"),
        (("--config", "nothere.yaml"), "nothere.yaml: write to CONFIG one that is there"),
    ],
    ids=str,
)
def test_an_option_that_is_wrong_is_a_sentence_that_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(serve_local, "prepare_environment", lambda: None)
    monkeypatch.setattr(sys, "argv", ["serve_local", *arguments])
    assert serve_local.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Fooocus Serve could not start: ")
    assert told in line


def test_a_port_of_the_config_file_that_is_none_is_told_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"^http_options\.port is 65536, "):
        serve_local._check_port("127.0.0.1", 65_536)


def test_a_family_that_is_not_whole_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "family.json").write_text(json.dumps({"name": "toy", "version": "1", "checkpoint": "gone.safetensors"}))
    with pytest.raises(ValueError, match=r"gone\.safetensors"):
        serve_local._check_family(tmp_path)


@pytest.mark.parametrize(("gpus", "most"), [(1.0, 1), (4.0, 4), (16.0, 8)])
def test_there_are_no_more_diffusers_than_gpus(gpus: float, most: int) -> None:
    options = serve_local._with_gpus(read(ROOT / "serve_config.gpu.yaml").options, gpus)
    assert options["Diffuser"]["autoscaling_config"]["max_replicas"] == most


def test_without_a_gpu_it_says_so_and_on_the_cpu_it_needs_none() -> None:
    with pytest.raises(ValueError, match="no GPU"):
        serve_local._with_gpus(read(ROOT / "serve_config.gpu.yaml").options, 0.0)
    local = read(ROOT / "serve_config.local.yaml").options
    assert serve_local._with_gpus(local, 0.0) == local


def test_a_family_with_a_changed_file_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "toy.safetensors").write_bytes(b"short")
    record = {"size": 6, "sha256": "", "modified_ns": 0}
    family = {"name": "toy", "version": "1", "checkpoint": "toy.safetensors", "files": {"toy.safetensors": record}}
    (tmp_path / "family.json").write_text(json.dumps(family))
    with pytest.raises(ValueError, match="has 5 bytes and had 6"):
        serve_local._check_family(tmp_path)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("pipelines.errors.WeightsFault: one.weight is missing", "one.weight is missing"),
        ("torch.OutOfMemoryError: CUDA out of memory\n\tof 3 GB", "torch.OutOfMemoryError: CUDA out of memory"),
    ],
)
def test_what_a_replica_says_last_is_why_it_does_not_start(last: str, told: str) -> None:
    trace = 'RuntimeError: Traceback (most recent call last):\n  File "one.py", line 1, in open\n    load()\n'
    said = (
        f"The deployment failed to start 3 times in a row. Error:\nray::ServeReplica:Diffuser (pid=1)\n{trace}{last}\n"
    )
    assert serve_local.last_words(said) == told
    assert serve_local.last_words("") == ""


@pytest.mark.parametrize(("host", "open_to_others"), [("127.0.0.1", False), ("localhost", False), ("0.0.0.0", True)])
def test_who_comes_from_elsewhere_needs_a_key_and_is_kept_from_this_machine(host: str, open_to_others: bool) -> None:
    file = read(ROOT / "serve_config.local.yaml").settings
    gateway = serve_local._reached_at(file, host).gateway
    assert (gateway.keys, gateway.allow_loopback_urls) == (("required", False) if open_to_others else ("off", True))


async def test_the_first_start_makes_a_key_that_counts_and_shows_it_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = GatewaySettings(data_dir=tmp_path, keys="required")
    caplog.set_level("DEBUG")
    await serve_local._show_first_key(settings, "https")
    (shown,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAL_KEY=")]
    credentials = shown.removeprefix("FAL_KEY=")
    assert credentials not in caplog.text
    keys = await SqlKeys.open(settings.ledger_address)
    try:
        key = await keys.check(credentials)
        assert key is not None
        assert {scope.value for scope in key.scopes} == {"run", "storage"}
        await serve_local._show_first_key(settings, "https")
        command = f".venv/bin/python -m gateway.keys --data-dir {tmp_path} create NAME"
        assert capsys.readouterr().out == f"Callers need a key; `{command}` makes another.\n"
        await keys.revoke(key.id)
        assert await serve_local._first_key(settings) is None  # who has revoked it wants no other one made
    finally:
        await keys.close()


def test_the_command_for_another_key_is_short_in_the_usual_place_and_shows_no_password() -> None:
    usual = GatewaySettings(data_dir=Path("var"), keys="required")
    assert serve_local._create_command(usual) == ".venv/bin/python -m gateway.keys create NAME"
    elsewhere = GatewaySettings(data_dir=Path("var"), keys="required", ledger_url="postgresql://me:hidden@host/db")
    command = serve_local._create_command(elsewhere)
    assert command == ".venv/bin/python -m gateway.keys --ledger-url LEDGER_URL create NAME"


async def test_without_tls_it_says_that_keys_cross_the_network_in_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await serve_local._show_first_key(GatewaySettings(data_dir=tmp_path, keys="required"), "http")
    assert "TLS=1" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host"])
def test_an_address_that_is_not_of_this_machine_is_told_from_a_port_that_is_taken(host: str) -> None:
    with pytest.raises(OSError, match="is no address of this machine"):
        serve_local._check_port(host, 9000)


async def test_a_database_that_does_not_answer_is_a_sentence_with_its_field_and_no_password() -> None:
    settings = GatewaySettings(data_dir=Path("var"), ledger_url="postgresql://me:hidden@127.0.0.1:9/db")
    with pytest.raises(RuntimeError, match=r"postgresql://me:\*\*\*@127\.0\.0\.1:9/db .*gateway\.ledger_url") as told:
        await serve_local._open_ledger(settings)
    assert len(str(told.value).splitlines()) == 1
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize("field", ["drawing", "checking", "expanding"])
def test_a_gpu_that_is_not_there_is_told_before_anything_starts(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = read(ROOT / "serve_config.local.yaml").settings
    part = getattr(settings, field).model_copy(update={"device": "cuda"})
    with pytest.raises(ValueError, match=rf"{field}\.device is cuda, but .*set it to cpu"):
        serve_local._check_devices(settings.model_copy(update={field: part}))
    serve_local._check_devices(settings)


def installing(place: Path, pip: str) -> subprocess.CompletedProcess[str]:
    """`make` of the environment in `place`, with a `pip` of our own."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (place / name).write_bytes((ROOT / name).read_bytes())
    (place / ".venv/bin").mkdir(parents=True)
    (place / ".venv/bin/pip").write_text(f"#!/bin/bash\n{pip}\n")
    (place / ".venv/bin/pip").chmod(0o755)
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", ".venv/.serve-stamp", "TICK_S=0.2"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def test_installing_shows_seconds_and_not_what_pip_says(tmp_path: Path) -> None:
    done = installing(tmp_path, "echo WARNING: you run pip as root >&2; sleep 0.5")
    assert (done.returncode, done.stderr) == (0, "")
    first, *ticks = done.stdout.splitlines()
    assert first.startswith("Installing")
    assert ticks
    assert all(re.fullmatch(r"  \d+ s", tick) for tick in ticks)


def test_what_pip_said_is_shown_where_it_fails(tmp_path: Path) -> None:
    done = installing(tmp_path, "echo No matching distribution; exit 1")
    assert done.returncode != 0
    assert "No matching distribution" in done.stderr
    assert ".venv/install.log" in done.stderr
    assert not (tmp_path / ".venv/.serve-stamp").exists()
