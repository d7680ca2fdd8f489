"""`python -m gateway.keys` makes, shows, renews and ends keys that the service then knows."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.keys.__main__ import main
from gateway.keys.base import Key, Scope
from gateway.keys.limits import KeyLimits
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(tmp_path: Path, *arguments: str) -> int:
    return main(["--data-dir", str(tmp_path), *arguments])


def known(tmp_path: Path, credentials: str) -> Key | None:
    async def ask() -> Key | None:
        keys = await SqlKeys.open(GatewaySettings(data_dir=tmp_path).ledger_address)
        try:
            return await keys.check(credentials)
        finally:
            await keys.close()

    return asyncio.run(ask())


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    found = re.search(r"^FAL_KEY=(\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert found
    return found[1]


def test_a_key_is_created_listed_rotated_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--concurrency", "2", "--queue-length", "50", "--pixel-steps", "1000000")
    assert call(tmp_path, "create", "my app", "--expires-in", "30d", *limits) == 0
    credentials = shown(capsys)
    key = known(tmp_path, credentials)
    assert key is not None
    assert (key.name, key.scopes, key.limits) == ("my app", {Scope.RUN, Scope.STORAGE}, KeyLimits(2, 50, 1_000_000))
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (29, 30)

    assert call(tmp_path, "list") == 0
    listed = capsys.readouterr().out
    assert key.id in listed
    assert credentials.split(":")[1] not in listed

    assert call(tmp_path, "rotate", key.id, "--overlap", "1h") == 0
    renewed = shown(capsys)
    assert known(tmp_path, credentials) == known(tmp_path, renewed) == key

    assert call(tmp_path, "revoke", key.id) == 0
    assert known(tmp_path, renewed) is None
    assert call(tmp_path, "revoke", key.id) == 1
    assert call(tmp_path, "rotate", key.id) == 1


def test_scopes_are_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(tmp_path, "create", "root", "--scope", "admin")
    key = known(tmp_path, shown(capsys))
    assert key is not None
    assert key.scopes == {Scope.ADMIN}


@pytest.mark.parametrize(
    "arguments", [["create"], ["create", "x", "--scope", "all"], ["create", "x", "--expires-in", "5"]]
)
def test_misuse_is_explained(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        call(tmp_path, *arguments)
