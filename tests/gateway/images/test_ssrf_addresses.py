"""The guard lets public addresses pass and nothing else."""

import pytest

from gateway.images.ssrf import RefusedAddress, RefusedUrl, check_address, check_port

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]
LOOPBACK = ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"]
REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::10.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:a9fe:a9fe::1",
    "2001:0:1::1",
    "2001:db8::1",
    "2001:1ff::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "2606:4700::1111%1",
    "fec0::1",
    "ff02::1",
    "localhost",
    "",
]


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_pass(ip: str, allow_loopback: bool) -> None:
    check_address(ip, allow_loopback)


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize("ip", REFUSED)
def test_all_others_are_refused(ip: str, allow_loopback: bool) -> None:
    with pytest.raises(RefusedAddress) as caught:
        check_address(ip, allow_loopback)
    assert not ip or ip not in str(caught.value)


@pytest.mark.parametrize("ip", LOOPBACK)
def test_loopback_passes_only_where_it_is_allowed(ip: str) -> None:
    check_address(ip, allow_loopback=True)
    with pytest.raises(RefusedAddress):
        check_address(ip, allow_loopback=False)


@pytest.mark.parametrize("port", [80, 443, 1024, 8000, 65535])
def test_ports_of_the_web_and_free_ones_pass(port: int) -> None:
    check_port(port)


@pytest.mark.parametrize("port", [0, 22, 1023, 6000, 65536])
def test_of_another_port_it_is_told_which_ones_are_allowed(port: int) -> None:
    with pytest.raises(RefusedUrl, match=r"80, 443 and 1024 to 65535 are, except for 1719, .*, 6000, ") as caught:
        check_port(port)
    assert str(caught.value).startswith("its port is not allowed; ")
