"""A token says who it stands for, for a short time and one purpose, and cannot be made by others."""

from pathlib import Path

import jwt
import pytest
from pydantic import SecretStr, ValidationError

from gateway.keys.tokens import FILE, LONGEST_S, Purpose, Token, Tokens
from gateway.settings import GatewaySettings

SECRET = b"s" * 32


def tokens(now: float = 1000.0, secret: bytes = SECRET) -> Tokens:
    return Tokens(secret, lambda: now)


def test_a_token_says_who_and_for_what() -> None:
    token = tokens().issue("k", Purpose.STREAM, 120, ["fooocus"])
    assert tokens().read(token, Purpose.STREAM) == Token("k", Purpose.STREAM, ("fooocus",))
    assert tokens().read(token, Purpose.STORAGE) is None


@pytest.mark.parametrize(("lifetime_s", "lasts_s"), [(120, 120), (10**9, LONGEST_S)])
def test_a_token_ends(lifetime_s: float, lasts_s: float) -> None:
    token = tokens().issue("k", Purpose.STREAM, lifetime_s)
    assert tokens(1000 + lasts_s - 1).read(token, Purpose.STREAM)
    assert tokens(1000 + lasts_s).read(token, Purpose.STREAM) is None


def test_others_cannot_make_one() -> None:
    good = tokens().issue("k", Purpose.STREAM, 120)
    claims = jwt.decode(good, options={"verify_signature": False})
    forged = [
        jwt.encode(claims, "x" * 32, "HS256"),
        jwt.encode(claims, None, "none"),
        jwt.encode(claims, SECRET * 2, "HS512"),
        jwt.encode({**claims, "aud": "other"}, SECRET, "HS256"),
        jwt.encode({name: value for name, value in claims.items() if name != "exp"}, SECRET, "HS256"),
        good[:-2],
        "",
        "a.b.c",
    ]
    assert [tokens().read(text, Purpose.STREAM) for text in forged] == [None] * len(forged)


def test_the_secret_is_made_once_and_private(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path)
    token = Tokens.of(settings).issue("k", Purpose.STREAM, 120)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert Tokens.of(settings).read(token, Purpose.STREAM)


def test_the_secret_may_come_from_settings(tmp_path: Path) -> None:
    settings = GatewaySettings(data_dir=tmp_path, token_secret=SecretStr("s" * 32))
    assert Tokens.of(settings).read(Tokens(SECRET).issue("k", Purpose.STREAM, 120), Purpose.STREAM)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValidationError) as caught:
        GatewaySettings(data_dir=tmp_path, token_secret=SecretStr("geheim"))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("secret", ["the next one".ljust(32), "the former one".ljust(32)])
def test_a_token_of_another_secret_is_taken_where_it_is_listed(tmp_path: Path, secret: str) -> None:
    token = Tokens(secret.encode()).issue("k", Purpose.STREAM, 120)
    settings = GatewaySettings(data_dir=tmp_path, token_secret=SecretStr("s" * 32))
    assert Tokens.of(settings).read(token, Purpose.STREAM) is None
    both = settings.model_copy(update={"other_token_secrets": (SecretStr("x" * 32), SecretStr(secret))})
    assert Tokens.of(both).read(token, Purpose.STREAM)
    assert Tokens(SECRET).read(Tokens.of(both).issue("k", Purpose.STREAM, 120), Purpose.STREAM)


def test_a_token_of_a_made_secret_is_taken_once_another_is_set(tmp_path: Path) -> None:
    token = Tokens.of(GatewaySettings(data_dir=tmp_path)).issue("k", Purpose.STREAM, 120)
    settings = GatewaySettings(data_dir=tmp_path, token_secret=SecretStr("s" * 32))
    assert Tokens.of(settings).read(token, Purpose.STREAM)


def test_a_sealed_payload_comes_back_until_it_runs_out() -> None:
    sealed = tokens().seal({"key": "x"}, Purpose.UPLOAD, 60)
    assert tokens(1059).unseal(sealed, Purpose.UPLOAD) == {"key": "x"}
    assert tokens().unseal(sealed, Purpose.STORAGE) is None
    assert tokens().unseal(sealed[:-3] + "AAA", Purpose.UPLOAD) is None
    assert tokens(secret=b"t" * 32).unseal(sealed, Purpose.UPLOAD) is None
    assert tokens(1060).unseal(sealed, Purpose.UPLOAD) is None
