"""The argument of the app: typed, strict, with paths that hold on other machines' working directories."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.settings import AppSettings

LEAST = {"gateway": {"data_dir": "var"}, "drawing": {"family": "pocket"}}


def test_the_least_that_must_be_said_is_enough() -> None:
    assert AppSettings.model_validate(LEAST).checking.device == "cpu"


@pytest.mark.parametrize(
    "path",
    [
        ("misspelt",),
        ("gateway", "misspelt"),
        ("drawing", "misspelt"),
        ("checking", "misspelt"),
    ],
    ids=".".join,
)
def test_an_unknown_key_fails_and_is_named(path: tuple[str, ...]) -> None:
    given: dict[str, Any] = {name: dict(part) for name, part in LEAST.items()}
    place = given
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = 1
    with pytest.raises(ValidationError) as caught:
        AppSettings.model_validate(given)
    assert [(error["type"], error["loc"]) for error in caught.value.errors()] == [("extra_forbidden", path)]


def test_a_fetch_of_weights_ends_before_its_request() -> None:
    for given in ({"weights": {"timeout_s": 600}}, {"gateway": {"data_dir": "var", "run_timeout_s": 300}}):
        with pytest.raises(ValidationError, match=r"weights\.timeout_s must be below gateway\.run_timeout_s"):
            AppSettings.model_validate(LEAST | given)


def test_relative_paths_are_absolute_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"styles_folder": "styles", "wildcards_folder": "wildcards"}
    settings = AppSettings.model_validate({**LEAST, "drawing": {**LEAST["drawing"], **folders}})
    assert settings.gateway.data_dir == tmp_path / "var"
    assert settings.drawing.family == tmp_path / "pocket"
    assert settings.drawing.styles_folder == tmp_path / "styles"
    assert settings.drawing.wildcards_folder == tmp_path / "wildcards"
    lists = {"folder": "model", "allowed": ["warm"], "blocked": "words.txt"}
    expanding = AppSettings.model_validate({**LEAST, "expanding": lists}).expanding
    assert (expanding.folder, expanding.blocked) == (tmp_path / "model", tmp_path / "words.txt")
    assert expanding.allowed == ("warm",)


def test_a_file_from_before_is_told_where_its_deployments_and_limits_have_gone() -> None:
    with pytest.raises(ValidationError, match=r"args\.deployments is now the list `deployments` beside args"):
        AppSettings.model_validate({**LEAST, "deployments": {"diffuser": {"num_gpus": 1}}})
    for name, deployment in (("max_waiting", "Gateway"), ("stop_grace_s", "Dispatcher")):
        with pytest.raises(ValidationError, match=rf"{name}: .* into user_config of `- name: {deployment}`"):
            AppSettings.model_validate({**LEAST, "gateway": {"data_dir": "var", name: 1}})


SHARED: Mapping[str, Any] = {
    "data_dir": "var",
    "ledger_url": "env:LEDGER_URL",
    "token_secret": "env:TOKEN_SECRET",
    "webhook_keys": ["env:WEBHOOK_KEY"],
    "files_url": "s3://bucket",
}


@pytest.mark.parametrize("lacking", ["token_secret", "webhook_keys", "files_url"])
@pytest.mark.parametrize("ledger", ["env:LEDGER_URL", "postgresql://me@host/db"])
def test_a_ledger_that_machines_share_needs_all_else_shared_and_says_what_to_write(ledger: str, lacking: str) -> None:
    gateway = {**SHARED, "ledger_url": ledger}
    AppSettings.model_validate({**LEAST, "gateway": gateway})
    del gateway[lacking]
    with pytest.raises(ValidationError, match=rf"each would have {lacking} of its own: write gateway\.{lacking}: \S+ "):
        AppSettings.model_validate({**LEAST, "gateway": gateway})


@pytest.mark.parametrize("given", [{}, {"files_url": "s3://bucket"}, {"ledger_url": "sqlite:////var/ledger.db"}])
def test_one_machine_needs_none_of_what_several_share(given: Mapping[str, Any]) -> None:
    AppSettings.model_validate({**LEAST, "gateway": {"data_dir": "var", **given}})


@pytest.mark.parametrize(
    ("field", "secret"),
    [
        ("ledger_url", "postgresql://me:hidden-hidden-hidden-hidden@host/db"),
        ("token_secret", "hidden-hidden-hidden-hidden-hidden"),
        ("other_token_secrets", ["hidden-hidden-hidden-hidden-hidden"]),
        ("webhook_keys", ["hidden-hidden-hidden-hidden-hidden"]),
    ],
)
def test_where_callers_need_keys_a_secret_is_refused_with_how_it_is_written(field: str, secret: object) -> None:
    gateway = {**SHARED, field: secret}
    AppSettings.model_validate({**LEAST, "gateway": gateway})
    with pytest.raises(ValidationError, match=rf"gateway\.{field} holds a secret, .*env:NAME .*file:") as told:
        AppSettings.model_validate({**LEAST, "gateway": {**gateway, "keys": "required"}})
    assert "hidden" not in str(told.value)
    named = ["env:NAME"] if isinstance(secret, list) else "env:NAME"
    AppSettings.model_validate({**LEAST, "gateway": {**gateway, "keys": "required", field: named}})


def test_an_address_without_a_password_is_no_secret() -> None:
    gateway = {**SHARED, "keys": "required", "ledger_url": "postgresql://me@host/db"}
    assert AppSettings.model_validate({**LEAST, "gateway": gateway}).gateway.ledger_address == gateway["ledger_url"]
