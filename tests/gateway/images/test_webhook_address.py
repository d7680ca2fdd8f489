"""A webhook that can never be delivered is refused when it is given."""

import pytest

from gateway.errors import PlatformError
from gateway.images.ssrf import webhook_address


@pytest.mark.parametrize("url", ["https://app.example/hook?a=b", "http://1.1.1.1:8080/", "https://bücher.example/"])
def test_a_public_address_is_kept(url: str) -> None:
    assert webhook_address(url, allow_loopback=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "ftp://a.example/",
        "http://u:p@a.example/",
        "http://10.0.0.1/",
        "http://0x7f.1/",
        "http://[::1]/",
    ],
)
def test_others_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(PlatformError, match="fal_webhook") as caught:
        webhook_address(url, allow_loopback=False)
    assert caught.value.status == 400
    assert not url or url not in caught.value.detail


def test_so_are_endless_ones() -> None:
    with pytest.raises(PlatformError, match="2048"):
        webhook_address("https://a.example/" + "a" * 2048, allow_loopback=False)


def test_loopback_is_for_examples() -> None:
    assert webhook_address("http://127.0.0.1:9000/", allow_loopback=True)
    with pytest.raises(PlatformError):
        webhook_address("http://127.0.0.1:9000/", allow_loopback=False)


def test_of_another_port_it_is_told_which_ones_are_allowed() -> None:
    with pytest.raises(PlatformError, match="fal_webhook cannot be used: its port is not allowed; 80, 443 and 1024 to"):
        webhook_address("https://a.example:22/", allow_loopback=False)
