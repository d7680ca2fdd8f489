"""What of a state is one machine's, and by what it is known again."""

from pathlib import Path
from typing import Any

import pytest

from gateway.local_state import SHARED, identity_in, identity_of, to_write
from gateway.settings import FixedSettings

ALL: dict[str, Any] = {
    "ledger_url": "env:LEDGER_URL",
    "token_secret": "env:TOKEN_SECRET",
    "webhook_keys": ["env:WEBHOOK_KEY"],
    "files_url": "s3://bucket",
}


def local(**given: Any) -> tuple[str, ...]:
    return FixedSettings.model_validate({"data_dir": "var", **given}).local_state()


def test_what_nobody_sets_is_of_one_machine() -> None:
    assert local() == (*SHARED,) == (*ALL,)
    assert local(**ALL) == ()


@pytest.mark.parametrize("name", ALL)
def test_each_of_them_is_shared_by_itself(name: str) -> None:
    assert name not in local(**{name: ALL[name]})
    assert local(**{other: value for other, value in ALL.items() if other != name}) == (name,)


def test_a_sqlite_file_is_of_one_machine_however_it_is_named() -> None:
    assert local(**{**ALL, "ledger_url": "sqlite:////var/ledger.db"}) == ("ledger_url",)


def test_what_to_write_has_a_form_that_the_settings_take() -> None:
    assert to_write(["files_url", "ledger_url"]).startswith(
        "gateway.files_url: s3://bucket/prefix, gateway.ledger_url: "
    )
    written = {name: example.partition(" ")[0].strip("[]") for name, example in SHARED.items()}
    assert local(**{**written, "webhook_keys": [written["webhook_keys"]]}) == ()


def test_a_folder_is_known_again_wherever_it_is(tmp_path: Path) -> None:
    assert identity_in(tmp_path / "none") is None
    identity = identity_of(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert identity_of(tmp_path / "elsewhere") == identity_in(tmp_path / "elsewhere") == identity
    assert identity_of(tmp_path / "data") != identity
