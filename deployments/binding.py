"""Where the service may listen."""

from ipaddress import ip_address


def check_host(host: str | None, keys_required: bool) -> None:
    """Raise ValueError unless `host` is this machine alone, or callers need a key."""
    if keys_required or host is None or host == "localhost":
        return
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"http_options.host is {host}, which other machines may reach, but no API keys are asked for: "
            "set gateway.keys to required, or the host to 127.0.0.1"
        )
