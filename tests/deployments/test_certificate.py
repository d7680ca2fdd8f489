"""The certificate that the service makes for itself: what it names, who can read it, when it is made again."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from deployments import certificate as module
from deployments.certificate import Certificate, certificate

NAMES = ("localhost", "queue.fal.run", "127.0.0.1", "::1")


def greeted(made: Certificate, name: str) -> str:
    """What a client that trusts the authority hears when it calls `name`."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(made.server)
    trusting = ssl.create_default_context(cafile=made.authority)
    trusting.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            with serving.wrap_socket(theirs, server_side=True) as talking:
                talking.sendall(b"hello")
        except ssl.SSLError:
            theirs.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours, trusting.wrap_socket(ours, server_hostname=name) as talking:
            return talking.recv(10).decode()
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_is_served_under_every_name(tmp_path: Path, name: str) -> None:
    assert greeted(certificate(tmp_path / "tls", NAMES), name) == "hello"


def test_other_names_are_not_served(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'example\.com'"):
        greeted(certificate(tmp_path, NAMES), "example.com")


def test_it_is_private_kept_and_valid_for_a_year(tmp_path: Path) -> None:
    made = certificate(tmp_path, NAMES)
    content = made.server.read_bytes()
    assert (made.server.stat().st_mode & 0o777, made.authority.stat().st_mode & 0o777) == (0o600, 0o644)
    assert b"PRIVATE" not in made.authority.read_bytes()
    ends = x509.load_pem_x509_certificates(content)[0].not_valid_after_utc
    assert timedelta(days=364) < ends - datetime.now(UTC) <= timedelta(days=365)
    assert certificate(tmp_path, NAMES[:2]).server.read_bytes() == content


def test_it_is_made_again_for_another_name_or_when_it_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = certificate(tmp_path, NAMES).server.read_bytes()
    second = certificate(tmp_path, [*NAMES, "more.example"]).server.read_bytes()
    assert second != first
    monkeypatch.setattr(module, "RENEWED", timedelta(days=366))
    made = certificate(tmp_path, NAMES)
    assert made.server.read_bytes() != second
    assert greeted(made, "localhost") == "hello"
    assert made.server.stat().st_mode & 0o077 == 0
