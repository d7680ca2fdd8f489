"""Where the service may listen: on this machine alone, or where callers need a key."""

from ipaddress import ip_address


def check_host(host: str | None, keys_required: bool) -> None:
    """Raise ValueError unless `host` is this machine alone, or callers need a key."""
    if not keys_required and host is not None and not is_loopback(host):
        raise ValueError(
            f"http_options.host is {host}, which other machines may reach, but no API keys are asked for: "
            "set gateway.keys to required, or the host to 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether this machine alone reaches `host`, an address or a name."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
