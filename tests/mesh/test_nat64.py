"""Where a NAT64 has IPv4: the examples of RFC 6052, section 2.4."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import pytest

from clan.mesh import nat64

EXAMPLES = {
    "2001:db8::/32": "2001:db8:c000:221::",
    "2001:db8:100::/40": "2001:db8:1c0:2:21::",
    "2001:db8:122::/48": "2001:db8:122:c000:2:2100::",
    "2001:db8:122:300::/56": "2001:db8:122:3c0:0:221::",
    "2001:db8:122:344::/64": "2001:db8:122:344:c0:2:2100::",
    "2001:db8:122:344::/96": "2001:db8:122:344::192.0.2.33",
    "64:ff9b::/96": "64:ff9b::192.0.2.33",
}


@pytest.mark.parametrize(("prefix", "expected"), EXAMPLES.items())
def test_an_address_lies_where_the_rfc_has_it_and_the_prefix_is_found_again(
    prefix: str, expected: str
) -> None:
    network = IPv6Network(prefix)
    assert nat64.embed(network, IPv4Address("192.0.2.33")) == IPv6Address(expected)
    told = [nat64.embed(network, each) for each in nat64.OWN]
    assert nat64.prefix([*nat64.OWN, *told]) == network


def test_without_a_nat64_the_name_has_no_ipv6_address_or_anybodys() -> None:
    assert nat64.prefix(nat64.OWN) is None
    assert nat64.prefix([ip_address("2001:db8::1")]) is None
