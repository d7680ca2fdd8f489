"""What a client may give as `fal_webhook`."""

from gateway.addresses import RefusedAddress, RefusedUrl, check_address, literal
from gateway.errors import PlatformError
from gateway.guard import check_url

MAX_LENGTH = 2048


def webhook_address(url: str, allow_loopback: bool) -> str:
    """`url`, where a delivery to it can be tried at all; what its name resolves to is checked at every delivery.

    Raises PlatformError `bad_request` with a 400, whose text does not repeat the URL.
    """
    why = f"it is longer than {MAX_LENGTH} characters"
    if len(url) <= MAX_LENGTH:
        try:
            host, _ = check_url(url)
            if (address := literal(host)) is not None:
                check_address(address, allow_loopback)
            return url
        except RefusedAddress:
            why = "its address is not a public one"
        except RefusedUrl as refused:
            why = str(refused)
    raise PlatformError("bad_request", f"fal_webhook cannot be used: {why}.")
