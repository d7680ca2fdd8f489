"""`python -m gateway.keys` makes, shows, renews and ends keys that the service then knows."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from gateway.keys.__main__ import main
from gateway.keys.base import Key, KeyLimits, Scope
from gateway.keys.sql import SqlKeys
from gateway.settings import GatewaySettings


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(tmp_path: Path, command: str, *arguments: str) -> int:
    new = ["--new"] if command == "create" else []
    return main(["--data-dir", str(tmp_path), command, *arguments, *new])


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


@pytest.fixture
def credentials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Of a key that was created."""
    assert call(tmp_path, "create", "mine") == 0
    return shown(capsys)


@pytest.fixture
def key(tmp_path: Path, credentials: str) -> Key:
    found = known(tmp_path, credentials)
    assert found is not None
    return found


def test_a_key_is_created_with_its_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--concurrency", "2", "--queue-length", "50", "--pixel-steps", "1000000")
    assert call(tmp_path, "create", "my app", "--expires-in", "30d", *limits) == 0
    key = known(tmp_path, shown(capsys))
    assert key is not None
    assert (key.name, key.scopes, key.limits) == ("my app", {Scope.RUN, Scope.STORAGE}, KeyLimits(2, 50, 1_000_000))
    assert key.expires_at is not None
    assert (key.expires_at - key.created_at).days in (29, 30)


def test_keys_are_listed_without_their_secrets(
    tmp_path: Path, credentials: str, key: Key, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "list") == 0
    listed = capsys.readouterr().out
    assert key.id in listed
    assert credentials.split(":")[1] not in listed


def test_a_rotated_key_has_two_secrets_for_a_while(
    tmp_path: Path, credentials: str, key: Key, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "rotate", key.id, "--overlap", "1h") == 0
    assert known(tmp_path, credentials) == known(tmp_path, shown(capsys)) == key


def test_a_revoked_key_is_known_no_more(tmp_path: Path, credentials: str, key: Key) -> None:
    assert call(tmp_path, "revoke", key.id) == 0
    assert known(tmp_path, credentials) is None
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


def test_an_id_is_whole_however_narrow_the_terminal_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    call(
        tmp_path, "create", "an [bold]app[/] with a long name of many words", "--expires-in", "1y", "--concurrency", "2"
    )
    said = capsys.readouterr().out
    (key,) = re.findall(r"^FAL_KEY=([0-9a-f]{16}):\S{43}$", said, re.MULTILINE)
    assert f"Key {key} (" in said
    call(tmp_path, "list")
    listed = capsys.readouterr().out
    assert key in listed
    assert "[bold]" in listed.replace("\n", "")
    assert "…" not in listed


def test_programs_read_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(tmp_path, "create", "app", "--json", "--pixel-steps", "5")
    made = json.loads(capsys.readouterr().out)
    assert made["credentials"].startswith(f"{made['id']}:")
    assert known(tmp_path, made["credentials"]) is not None
    call(tmp_path, "list", "--json")
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["name"], listed["state"], listed["pixel_steps"]) == (made["id"], "app", "counts", 5)
    assert "credentials" not in listed
    call(tmp_path, "rotate", made["id"], "--json")
    renewed = json.loads(capsys.readouterr().out)
    assert renewed["id"] == made["id"]
    assert renewed["credentials"] != made["credentials"]


@pytest.mark.parametrize("command", [["create", "x"], ["list"], ["rotate", "0" * 16], ["revoke", "0" * 16]])
def test_a_wrong_folder_makes_no_ledger(tmp_path: Path, command: list[str]) -> None:
    wrong = tmp_path / "wrong"
    assert f"There is no ledger at {wrong / 'ledger.db'}: " in refused("--data-dir", str(wrong), *command)
    assert not wrong.exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:geheim@127.0.0.1:1/l", "The ledger at postgresql://me:***@127.0.0.1:1/l cannot be reached: "),
        ("mysql://me:geheim@127.0.0.1/l", "--ledger-url: the ledger does not know mysql; write postgresql://"),
        ("nonsense", "--ledger-url: it is no address of a database; write postgresql://"),
    ],
)
def test_a_database_that_is_away_or_none_is_one_sentence(tmp_path: Path, url: str, said: str) -> None:
    sentence = refused("--data-dir", str(tmp_path), "--ledger-url", url, "list")
    assert sentence.startswith(said)
    assert "geheim" not in sentence


def refused(*arguments: str) -> str:
    """The one sentence with which the command ends."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    (sentence,) = str(ended.value).splitlines()
    return sentence
