"""Settings: misspelt keys fail, and the ledger lives in the data folder unless told otherwise."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings import DispatcherLimits, FixedSettings, GatewayLimits, GatewaySettings


def test_a_misspelt_key_fails() -> None:
    with pytest.raises(ValidationError, match="lease_seconds"):
        GatewaySettings.model_validate({"data_dir": "data", "lease_seconds": 3})


def test_the_ledger_is_a_file_of_the_data_folder() -> None:
    assert GatewaySettings(data_dir=Path("/data")).ledger_address == "sqlite:////data/ledger.db"


def test_the_ledger_may_be_elsewhere() -> None:
    url = "sqlite:////other/ledger.db"
    assert GatewaySettings(data_dir=Path("/data"), ledger_url=url).ledger_address == url


@pytest.mark.parametrize("url", ["images.example.org", "ftp://example.org", "https://example.org/base", "https://"])
def test_a_public_url_is_scheme_and_host(url: str) -> None:
    with pytest.raises(ValidationError, match="public_url"):
        GatewaySettings(data_dir=Path("/data"), public_url=url)


def test_off_is_what_yaml_makes_of_it() -> None:
    assert GatewaySettings.model_validate({"data_dir": "data", "keys": False}).keys == "off"


def test_all_origins_need_keys() -> None:
    assert GatewaySettings(data_dir=Path("/data"), keys="required", cors_origins=("*",))
    with pytest.raises(ValidationError, match="cors_origins"):
        GatewaySettings(data_dir=Path("/data"), cors_origins=("*",))


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "https://*.example"])
def test_an_origin_is_scheme_and_host(origin: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        GatewaySettings(data_dir=Path("/data"), cors_origins=(origin,))


def test_private_files_need_keys() -> None:
    assert GatewaySettings(data_dir=Path("/data"), keys="required", files_access="key")
    with pytest.raises(ValidationError, match="files_access"):
        GatewaySettings(data_dir=Path("/data"), files_access="key")


@pytest.mark.parametrize(
    "url", ["s3://", "bucket", "https://host/bucket", "s3://UPPER", "s3://bucket/../x?y", "s3://a:b@c"]
)
def test_a_bucket_is_named_by_its_address(url: str) -> None:
    assert GatewaySettings(data_dir=Path("/data"), files_url="s3://my-bucket/some/prefix")
    with pytest.raises(ValidationError, match="files_url"):
        GatewaySettings(data_dir=Path("/data"), files_url=url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://me:hidden@host/db", "does not know mysql"),
        ("postgresql://me:hidden@host", "names no database"),
        ("sqlite://", "names no file"),
        ("hidden", "no address of a database"),
    ],
)
def test_a_ledger_of_another_kind_is_refused_with_what_to_write_and_no_password(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=f"ledger_url\n.*{why}; write postgresql://user:password@host") as told:
        GatewaySettings(data_dir=Path("/data"), ledger_url=url)
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_postgresql_is_taken_with_any_driver_for_the_ledger_takes_its_own(driver: str) -> None:
    url = f"{driver}://me:word@host/db"
    assert GatewaySettings(data_dir=Path("/data"), ledger_url=url).ledger_address == url


def test_limits_change_in_place_for_all_who_hold_the_settings() -> None:
    settings = GatewaySettings.of(FixedSettings(data_dir=Path("/data"), keys="required"), DispatcherLimits(capacity=7))
    assert (settings.keys, settings.capacity, settings.max_waiting) == ("required", 7, 10_000)
    settings.limit(GatewayLimits(max_waiting=3))
    assert (settings.capacity, settings.max_waiting) == (7, 3)
    settings.limit(GatewayLimits())
    assert settings.max_waiting == 10_000


def test_what_stays_and_what_may_change_are_told_apart() -> None:
    assert {*GatewaySettings.model_fields} == {
        *FixedSettings.model_fields,
        *GatewayLimits.model_fields,
        *DispatcherLimits.model_fields,
    }
    with pytest.raises(ValidationError, match="max_waiting"):
        FixedSettings.model_validate({"data_dir": "data", "max_waiting": 3})


def test_a_secret_is_read_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text("s" * 32 + "\n")
    monkeypatch.setenv("URL", "postgresql://me:hidden@host/db")
    settings = FixedSettings.model_validate(
        {"data_dir": "data", "ledger_url": "env:URL", "token_secret": f"file:{tmp_path / 'secret'}"}
    )
    assert (settings.ledger_address, settings.secret()) == ("postgresql://me:hidden@host/db", "s" * 32)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("held", "says"),
    [
        (None, "gateway.token_secret: there is nothing to read at env:A_SECRET"),
        (" ", "gateway.token_secret: there is nothing at env:A_SECRET"),
        ("hidden", "token_secret has 6 characters, and 32 are the least"),
    ],
)
def test_a_secret_that_is_not_there_is_a_sentence_without_what_is(
    monkeypatch: pytest.MonkeyPatch, held: str | None, says: str
) -> None:
    monkeypatch.delenv("A_SECRET", raising=False)
    if held is not None:
        monkeypatch.setenv("A_SECRET", held)
    settings = FixedSettings.model_validate({"data_dir": "data", "token_secret": "env:A_SECRET"})
    with pytest.raises(ValueError, match=says) as told:
        settings.secret()
    assert "hidden" not in str(told.value)


def test_what_a_reference_leads_to_is_held_to_what_a_ledger_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URL", "mysql://me:hidden@host/db")
    settings = FixedSettings.model_validate({"data_dir": "data", "ledger_url": "env:URL"})
    with pytest.raises(ValueError, match=r"gateway\.ledger_url: the ledger does not know mysql") as told:
        _ = settings.ledger_address
    assert "hidden" not in str(told.value)
