"""Where the service may listen."""

from ipaddress import ip_address


def check_host(host: str | None) -> None:
    """Raise ValueError unless `host` is this machine alone.

    Keys are accepted and not checked yet, so whoever reaches the port may use the service.
    """
    if host is None or host == "localhost":
        return
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"http_options.host is {host}, which other machines may reach, but API keys are not checked yet: "
            "set it to 127.0.0.1 and reach the service through a tunnel or a proxy that authenticates"
        )
