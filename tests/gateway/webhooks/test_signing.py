"""What is signed verifies by fal's documented steps, and only unchanged, in time and by a published key."""

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import SecretStr

from gateway.settings import GatewaySettings
from gateway.webhooks.__main__ import main
from gateway.webhooks.signing import FILE, FileKeyRing, FixedRing, SigningKey, jwks, ring_of, signed_headers
from tests.gateway.webhooks.verifying import verifies

ONE, TWO = SigningKey(b"1" * 32), SigningKey(b"2" * 32)
BODY = '{"payload":"ü"}'.encode()


def signed(key: SigningKey = ONE, now: float | None = None) -> dict[str, str]:
    return signed_headers(key, "r1", "user", BODY, time.time() if now is None else now)


def test_a_signature_verifies_by_the_documented_steps() -> None:
    headers = signed()
    assert set(headers) == {
        "x-fal-webhook-request-id",
        "x-fal-webhook-user-id",
        "x-fal-webhook-timestamp",
        "x-fal-webhook-signature",
    }
    assert len(bytes.fromhex(headers["x-fal-webhook-signature"])) == 64
    assert verifies(headers, BODY, jwks(FixedRing((ONE,))))


def test_any_published_key_verifies() -> None:
    assert verifies(signed(TWO), BODY, jwks(FixedRing((ONE, TWO))))
    assert not verifies(signed(TWO), BODY, jwks(FixedRing((ONE,))))


@pytest.mark.parametrize("changed", ["request-id", "user-id", "timestamp", "signature", "body"])
def test_what_was_changed_does_not_verify(changed: str) -> None:
    headers = signed(now=time.time() - 60)
    body = BODY + b" " if changed == "body" else BODY
    if changed != "body":
        name = f"x-fal-webhook-{changed}"
        other = {"timestamp": str(int(time.time())), "signature": "00" * 64}.get(changed, "other")
        headers[name] = other
    assert not verifies(headers, body, jwks(FixedRing((ONE,))))


def test_an_old_delivery_does_not_verify() -> None:
    assert not verifies(signed(now=time.time() - 301), BODY, jwks(FixedRing((ONE,))))


def test_another_library_and_the_message_byte_by_byte_agree() -> None:
    """The message as fal documents it, spelt out; SHA-256 of an empty body is a known value."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    signature = bytes.fromhex(signed_headers(ONE, "r1", "user", b"", 1700000000.9)["x-fal-webhook-signature"])
    (key,) = jwks(FixedRing((ONE,)))["keys"]
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"]))
    public.verify(signature, f"r1\nuser\n1700000000\n{empty}".encode())
    with pytest.raises(InvalidSignature):
        public.verify(signature, f"r1\nuser\n1700000000\n{empty}\n".encode())


def test_the_published_form_is_a_jwk_and_holds_no_secret() -> None:
    (key,) = jwks(FixedRing((ONE,)))["keys"]
    assert {**key, "x": "", "kid": ""} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "use": "sig",
        "alg": "EdDSA",
        "x": "",
        "kid": "",
    }
    assert len(key["x"]) == 44  # padded (fal-protocol 5)
    loaded: Any = jwt.PyJWK({**key, "x": key["x"].rstrip("=")}).key
    assert loaded.public_bytes_raw() == base64.urlsafe_b64decode(key["x"])
    assert "111" not in repr(ONE)


def test_the_first_start_makes_a_private_file_that_stays(tmp_path: Path) -> None:
    ring = ring_of(GatewaySettings(data_dir=tmp_path / "data"))
    first = jwks(ring)
    assert (tmp_path / "data" / FILE).stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == [FILE]
    assert jwks(ring_of(GatewaySettings(data_dir=tmp_path / "data"))) == first
    assert len(first["keys"]) == 1


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    FileKeyRing(tmp_path / FILE).signing()
    (tmp_path / FILE).chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        FileKeyRing(tmp_path / FILE).signing()


def test_a_new_key_is_published_at_once_and_signs_when_every_receiver_can_know_it(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    ring = FileKeyRing(tmp_path / FILE, lambda: now)
    old = ring.signing()
    rotating = FileKeyRing(tmp_path / FILE, lambda: now)
    now += timedelta(days=3)
    rotating.rotate()
    published = ring.published()  # the one that was running sees it
    assert (len(published), published[1], ring.signing()) == (2, old, old)
    now += timedelta(hours=23)
    assert ring.signing() == old
    now += timedelta(hours=1)
    assert ring.signing() == published[0]
    assert old in ring.published()


def test_rotations_forget_what_nobody_needs_and_never_the_signing_key(tmp_path: Path) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    ring = FileKeyRing(tmp_path / FILE, lambda: now)
    first = ring.signing()
    for _ in range(4):
        now += timedelta(minutes=1)
        ring.rotate()
    assert (len(ring.published()), ring.signing()) == (5, first)
    now += timedelta(days=2)
    ring.rotate()
    assert (len(ring.published()), first in ring.published()) == (3, False)


def test_keys_may_come_from_settings(tmp_path: Path) -> None:
    seeds = tuple(SecretStr(base64.b64encode(key.seed).decode()) for key in (ONE, TWO))
    settings = GatewaySettings(data_dir=tmp_path, webhook_keys=seeds)
    ring = ring_of(settings)
    assert (ring.signing(), list(ring.published())) == (ONE, [ONE, TWO])
    assert list(tmp_path.iterdir()) == []
    assert seeds[0].get_secret_value() not in repr(settings)


@pytest.mark.parametrize("bad", ["geheim", "c2hvcnQ=", "ü"])
def test_a_key_that_is_none_is_refused_without_its_name(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ValueError, match="32 random bytes") as caught:
        ring_of(GatewaySettings(data_dir=tmp_path, webhook_keys=(SecretStr(bad),)))
    assert bad not in str(caught.value)


def test_the_command_rotates_and_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rotate", "--data-dir", str(tmp_path)])
    main(["list", "--data-dir", str(tmp_path)])
    shown = capsys.readouterr().out
    ring = FileKeyRing(tmp_path / FILE)
    assert len(ring.published()) == 2
    assert shown.count(ring.signing().jwk()["kid"][:8]) == 2
    assert base64.b64encode(ring.signing().seed).decode()[:8] not in shown
