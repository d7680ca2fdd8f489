"""The guards themselves: a client that nobody pointed at the service does not get a packet out, and is seen."""

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import fal_client
import pytest

from tests.clients.guard import Guard, LeftTheMachine

HERE = Path(__file__).parent
RunNode = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY", "any:key")


def test_an_unredirected_call_is_refused_before_its_name_is_looked_up(guard: Guard) -> None:
    with guard.recording() as seen, pytest.raises(LeftTheMachine, match="queue\\.fal\\.run"):
        fal_client.subscribe("fal-ai/fooocus", arguments={})
    assert seen == ["queue.fal.run"]


async def test_the_async_client_is_seen_too(guard: Guard, async_client: fal_client.AsyncClient) -> None:
    with guard.recording() as seen, pytest.raises(LeftTheMachine):
        await async_client.run("fal-ai/fooocus", arguments={})
    assert seen == ["fal.run"]


def test_a_swallowed_error_still_fails(guard: Guard) -> None:
    def swallow() -> None:
        with guard.watching(), contextlib.suppress(LeftTheMachine):
            fal_client.run("fal-ai/fooocus", arguments={})

    with pytest.raises(LeftTheMachine, match=r"the client called fal\.run"):
        swallow()


def test_a_call_in_a_worker_thread_is_seen(guard: Guard) -> None:
    def call() -> None:
        with contextlib.suppress(LeftTheMachine):
            fal_client.run("fal-ai/fooocus", arguments={})

    with guard.recording() as seen:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert seen == ["fal.run"]


def test_a_bare_address_is_refused(guard: Guard) -> None:
    with guard.recording() as seen, socket.socket() as opened, pytest.raises(LeftTheMachine):
        opened.connect(("192.0.2.1", 443))
    assert seen == ["192.0.2.1"]


async def test_loopback_is_let_through(guard: Guard) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        with guard.watching():
            _, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("client", "host"), [("new", "queue.fal.run"), ("old", "queue.fal.run"), ("ai-sdk", "fal.run")]
)
def test_an_unredirected_javascript_client_ends_the_process(run_node: RunNode, client: str, host: str) -> None:
    """The program swallows the client's errors and exits with 0 when it gets the chance."""
    done = run_node(HERE / "unredirected.mjs", client)
    assert done.returncode == 97
    assert f"guard: a call to {host}\n" in done.stderr


@pytest.mark.parametrize(
    ("call", "host"),
    [
        ("(await import('node:net')).connect(443, '192.0.2.1')", "192.0.2.1"),
        ("(await import('node:net')).connect({ host: 'example.org', port: 443 })", "example.org"),
        ("(await import('node:tls')).connect({ host: 'example.org', port: 443 })", "example.org"),
        ("(await import('node:https')).get('https://example.org')", "example.org"),
        ("(await import('node:dns')).lookup('example.org', () => {})", "example.org"),
        ("await (await import('node:dns/promises')).resolve4('example.org')", "example.org"),
        ("(await import('node:dgram')).createSocket('udp4').send('x', 53, '192.0.2.1')", "192.0.2.1"),
        ("fetch('https://192.0.2.1/').catch(() => {})", "192.0.2.1"),
    ],
)
def test_every_way_out_of_node_is_shut(run_node: RunNode, tmp_path: Path, call: str, host: str) -> None:
    program = tmp_path / "program.mjs"
    program.write_text(f"try {{ {call}; }} catch {{ process.exit(0); }}\n")
    done = run_node(program)
    assert (done.returncode, done.stderr) == (97, f"guard: a call to {host}\n")
