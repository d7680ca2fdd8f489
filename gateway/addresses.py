"""Which network addresses a client may make us connect to."""

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


class RefusedAddress(ValueError):
    """An address that is not a public one."""


def check_address(ip: str | IPv4Address | IPv6Address, allow_loopback: bool) -> None:
    """Pass for a globally routable unicast address, and for loopback where that is allowed.

    An IPv6 address that carries an IPv4 address (mapped, 6to4, NAT64) is judged by the one it carries. Raises
    RefusedAddress for everything else, and for what is not an address; the message does not repeat the address.
    """
    try:
        address = _carried(ip_address(ip) if isinstance(ip, str) else ip)
    except ValueError as error:
        raise RefusedAddress("not a network address") from error
    if address.is_loopback and allow_loopback:
        return
    if not _is_public(address):
        raise RefusedAddress("not a public address")


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NEVER_4)
    if address not in _GLOBAL_UNICAST or address.scope_id is not None:
        return False
    return not any(address in network for network in _NEVER_6)
