"""Which network addresses, host names and ports a client may make us connect to."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

# RFC 4291: all global unicast there is. Leaves out what the registries do not call private, such as fec0::/10.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
# Python's own tables of what is not global differ between releases; these are refused under all of them.
_NEVER_4 = (
    IPv4Network("100.64.0.0/10"),  # carriers' inside, and one cloud's metadata service
    IPv4Network("168.63.129.16/32"),  # another cloud's metadata service, on a public address
    IPv4Network("192.0.0.0/24"),  # RFC 6890: protocol assignments, and one cloud's metadata service
    IPv4Network("192.88.99.0/24"),  # relays from IPv4 to 6to4, withdrawn by RFC 7526
)
_NEVER_6 = (
    IPv6Network("2001::/23"),  # RFC 2928: protocol assignments, Teredo among them
    IPv6Network("3fff::/20"),  # RFC 9637: documentation
)
# RFC 5214: an ISATAP interface identifier, whose last four bytes are the IPv4 address that packets are sent to.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
# Above 1023 the ports that browsers refuse too (WHATWG Fetch, "bad port"): services that mistake a request for theirs.
_BAD_PORTS = frozenset({1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080}) | set(
    range(6665, 6670)
)
_WEB_PORTS = frozenset({80, 443})
_FIRST_PORT, _LAST_PORT = 1024, 65535
_ALLOWED = (
    f"{', '.join(map(str, sorted(_WEB_PORTS)))} and {_FIRST_PORT} to {_LAST_PORT} are, "
    f"except for {', '.join(map(str, sorted(_BAD_PORTS)))}"
)

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*", re.IGNORECASE)
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*", re.IGNORECASE)


class RefusedAddress(ValueError):
    """An address that is not a public one."""


class RefusedUrl(ValueError):
    """A URL that is not used whatever its host resolves to. The message says why and repeats nothing of the URL."""


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` spells, without brackets; None for a name, which has to be resolved.

    Raises RefusedAddress for other spellings of an address (decimal, octal, hexadecimal, short, with a final dot),
    which systems read differently, and RefusedUrl for what is no host at all.
    """
    try:
        return ip_address(host)
    except ValueError:
        pass
    if _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise RefusedAddress("not a public address")
    if _NAME.fullmatch(host.removesuffix(".")) is None:
        raise RefusedUrl("its host is not valid")
    return None


def check_port(port: int) -> None:
    """Pass for 80, 443 and what is above 1023 and no known other service's. Raises RefusedUrl."""
    if port not in _WEB_PORTS and (not _FIRST_PORT <= port <= _LAST_PORT or port in _BAD_PORTS):
        raise RefusedUrl(f"its port is not allowed; {_ALLOWED}")


def check_address(ip: str | IPv4Address | IPv6Address, allow_loopback: bool) -> None:
    """Pass for a globally routable unicast address, and for loopback where that is allowed.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64, ISATAP) is judged by the one it carries too.
    Raises RefusedAddress for everything else, for an address with a zone and for what is no address; the message does
    not repeat the address.
    """
    try:
        address = ip_address(ip) if isinstance(ip, str) else ip
    except ValueError as error:
        raise RefusedAddress("not a network address") from error
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise RefusedAddress("not a public address")
        address = address.ipv4_mapped or address
    if address.is_loopback and allow_loopback:
        return
    if not all(_is_public(each) for each in _judged(address)):
        raise RefusedAddress("not a public address")


def _judged(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, or what it carries where the IPv6 address is only the way there."""
    if isinstance(address, IPv4Address):
        return [address]
    last = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _NAT64:
        return [last]
    judged: list[IPv4Address | IPv6Address] = [address.sixtofour or address]
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        judged.append(last)
    return judged


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_4)
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NEVER_6)
