"""A certificate for a service that has none: signed by an authority of its own, for clients that insist on https."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.private_files import read_or_create, replace

VALID = timedelta(days=365)
RENEWED = timedelta(days=30)  # before it ends
CLOCKS = timedelta(hours=1)  # that a client's clock may be behind


@dataclass(frozen=True, slots=True)
class Certificate:
    """authority: what clients trust, readable by all. server: the private key and its chain, the owner's alone."""

    authority: Path
    server: Path


def certificate(folder: Path, names: Iterable[str]) -> Certificate:
    """A certificate for `names` (of hosts, and addresses); the one in `folder` while it is good, otherwise a new one.

    Nobody can sign with the authority again, for its key is not kept: whoever trusts it trusts this service alone, and
    a new certificate has a new authority in the same place. Raises PermissionError as `read_or_create` does.
    """
    wanted = frozenset(names)
    found = Certificate(folder / "ca.pem", folder / "server.pem")
    content = read_or_create(found.server, lambda: _made(wanted))
    if not _is_good(content, wanted):
        content = _made(wanted)
        replace(found.server, content)
    _, authority = x509.load_pem_x509_certificates(content)
    replace(found.authority, authority.public_bytes(Encoding.PEM))
    found.authority.chmod(0o644)
    return found


def _is_good(content: bytes, names: frozenset[str]) -> bool:
    leaf = x509.load_pem_x509_certificates(content)[0]
    named = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = {str(entry.value) for entry in named}
    return leaf.not_valid_after_utc - datetime.now(UTC) > RENEWED and names <= known


def _made(names: frozenset[str]) -> bytes:
    """The server's key, its certificate and the authority's, in PEM."""
    authority_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _authority(authority_key)
    leaf = (
        _begun("Fooocus Serve", authority.subject, key)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in sorted(names)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
            critical=False,
        )
        .sign(authority_key, SHA256())
    )
    packed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return packed + leaf.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)


def _authority(key: EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fooocus Serve on this machine")])
    return (
        _begun("Fooocus Serve on this machine", name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, SHA256())
    )


def _begun(subject: str, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None
