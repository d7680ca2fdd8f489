"""The programs of docs/clients.md down to "Other clients", run as they are printed.

Only the address and the path of the authority's certificate are replaced.
"""

import os
import runpy
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.clients.conftest import HERE
from tests.cluster import ROOT, free_port
from tests.kills.service import Served
from tests.pages import ADDRESS, blocks, page

pytestmark = [pytest.mark.clients, pytest.mark.cluster]

PAGE = "docs/clients.md"
TRUSTED = "/path/to/the/clone/var/tls/ca.pem"  # as the page has it
GUARDED = """
import atexit, os
from tests.clients.guard import Guard
watching = Guard().recording()
seen = watching.__enter__()
atexit.register(lambda: seen and os._exit(97))
"""


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory, pocket_family_folder: Path) -> Iterator[Served]:
    served = Served.start(tmp_path_factory.mktemp("tls"), free_port(), "fake", pocket_family_folder, tls=True)
    yield served
    served.stop()


def assert_picture(said: str, address: str, trusted: Path | None = None) -> None:
    """The program told the address of a picture, under which there is one."""
    url = said.strip().strip('"')
    assert url.startswith(f"{address}/files/outputs/")
    context = ssl.create_default_context(cafile=trusted) if trusted else False
    with httpx2.Client(trust_env=False, verify=context) as client:
        assert client.get(url).headers["content-type"].startswith("image/")


@pytest.mark.long
def test_python_unchanged_by_environment_variables(over_tls: Served, tmp_path: Path) -> None:
    (command,) = blocks(page(PAGE), "sh")
    assert command == "make serve TLS=1 PORT=8443\n"
    assert "--tls" in page("Makefile").split("\nserve:")[1].split("\n\n")[0]
    (script,) = blocks(page(PAGE), "bash")
    assert (script.count("localhost:8443"), script.count(TRUSTED)) == (2, 1)
    trusted = over_tls.data / "tls" / "ca.pem"
    script = script.replace("localhost:8443", f"localhost:{over_tls.port}").replace(TRUSTED, str(trusted))
    (tmp_path / "app.py").write_text(blocks(page(PAGE), "python")[0], encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text(GUARDED, encoding="utf-8")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "no_proxy": "*",
        },
    )
    assert done.returncode == 0, done.stderr
    assert_picture(done.stdout, f"https://localhost:{over_tls.port}", trusted)


@pytest.mark.long
def test_without_the_authority_it_is_not_trusted(over_tls: Served) -> None:
    with httpx2.Client(trust_env=False) as client, pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY"):
        client.get(f"{over_tls.address}/ready")
    log = over_tls.config.with_suffix(".log").read_text()
    assert f"ready on https://127.0.0.1:{over_tls.port}\n" in log
    assert f"SSL_CERT_FILE={over_tls.data / 'tls' / 'ca.pem'}" in log


@pytest.mark.long
def test_node_over_tls(over_tls: Served, tmp_path: Path, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = blocks(page(PAGE), "js")[0].replace(ADDRESS, f"https://localhost:{over_tls.port}")
    trusted = over_tls.data / "tls" / "ca.pem"
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(trusted))
    said = _node(node, source, tmp_path)
    assert_picture(said, f"https://localhost:{over_tls.port}", trusted)


def test_python_with_the_constants(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = blocks(page(PAGE), "python")[1]
    assert source.count(ADDRESS) == 1
    (tmp_path / "app.py").write_text(source.replace(ADDRESS, base), encoding="utf-8")
    runpy.run_path(str(tmp_path / "app.py"), run_name="__main__")  # in this process, where the guard is
    assert_picture(capsys.readouterr().out, base)


@pytest.mark.parametrize("number", range(4), ids=["proxy", "middleware", "fetch", "older"])
def test_javascript(base: str, tmp_path: Path, node: str, number: int) -> None:
    source = blocks(page(PAGE), "js")[number]
    assert source.count(ADDRESS) == 1
    assert_picture(_node(node, source.replace(ADDRESS, base), tmp_path), base)


def _node(node: str, source: str, folder: Path) -> str:
    (folder / "app.mjs").write_text(source, encoding="utf-8")
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    command = [node, "--import", (HERE / "guard.mjs").as_uri(), "app.mjs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
