"""Addresses of databases: their passwords, wherever they stand, are for the driver alone."""

import os
from pathlib import Path

import pytest

from gateway.ledger.copying import CopyingFailed, copy_database
from gateway.ledger_address import parse, shown

SECRET = "geheim"
PLACE = "127.0.0.1:1/ledger"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@{PLACE}",
        f"postgresql://me@{PLACE}?password={SECRET}",
        f"postgresql://me:former@{PLACE}?password={SECRET}",
        f"postgresql://{PLACE}?user=me&password={SECRET}",
        f"postgresql://me@{PLACE}?password=former&password={SECRET}",
    ],
)
def test_a_password_is_the_drivers_and_is_not_shown(url: str) -> None:
    address = parse(url)
    assert address.password == SECRET
    assert "password" not in address.query
    for seen in (shown(address), repr(address), str(address)):
        assert SECRET not in seen
        assert "former" not in seen
        assert PLACE in seen


def test_other_secrets_of_the_driver_are_not_shown_and_what_is_none_is() -> None:
    address = parse(f"postgresql://me@{PLACE}?sslmode=require&sslpassword={SECRET}&oauth_client_secret={SECRET}")
    assert shown(address) == f"postgresql://me@{PLACE}?sslmode=require"
    assert address.query["sslpassword"] == SECRET


def test_a_file_is_shown_by_its_path() -> None:
    assert shown(parse("sqlite:////folder/ledger.db")) == "/folder/ledger.db"


def test_a_password_is_not_among_the_words_of_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are there for every user of the machine to read."""
    program = tmp_path / "pg_dump"
    program.write_text('#!/bin/sh\necho "words: $*; variable: $PGPASSWORD" >&2\nexit 1\n', encoding="utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(CopyingFailed) as told:
        copy_database(parse(f"postgresql://me@{PLACE}?password={SECRET}"), tmp_path / "copy", ["requests"])
    words, variable = str(told.value).split("; variable: ")
    assert variable == SECRET
    assert PLACE in words
    assert SECRET not in words
