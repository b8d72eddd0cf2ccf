from __future__ import annotations

import tomllib
from ipaddress import ip_address, ip_network

from clan.lab import schema
from clan.lab.addresses import plan, public_addresses

CONFIG = schema.parse(
    tomllib.loads("""
[sites]
home = { router = { forward = ["tcp 2222 nas 22"] } }
friend = {}
hosting = { router = { nat = "none" } }
other = { router = { nat = "none" }, ip = "4" }
six = { ip = "6" }
[machines]
nas = { site = "home" }
laptop = { site = "home", address = "192.168.1.10" }
desk = { site = "friend" }
vps = { site = "hosting", address = "203.0.113.10" }
second = { site = "hosting" }
third = { site = "other" }
phone = { site = "six" }
[admin]
site = "home"
""")
)
PLAN = plan(CONFIG)


def test_homes_may_have_the_same_private_range_and_public_sites_never_do() -> None:
    assert PLAN.sites["home"].lan4 == PLAN.sites["friend"].lan4 == ip_network("192.168.1.0/24")
    assert PLAN.sites["hosting"].lan4 == ip_network("203.0.113.0/27")
    assert PLAN.sites["other"].lan4 == ip_network("203.0.113.32/27")
    assert PLAN.sites["six"].lan4 is None


def test_a_fixed_address_is_kept_from_the_others() -> None:
    assert PLAN.sites["home"].residents4 == {
        "laptop": ip_address("192.168.1.10"),
        "nas": ip_address("192.168.1.11"),
    }
    assert PLAN.sites["hosting"].residents4 == {
        "vps": ip_address("203.0.113.10"),
        "second": ip_address("203.0.113.11"),
    }


def test_the_internet_finds_a_machine_at_its_own_address_or_its_routers() -> None:
    def found(name: str) -> list[str]:
        return [str(address) for address in public_addresses(CONFIG, PLAN, name)]

    assert found("vps") == ["203.0.113.10", "2001:db8:3::13"]
    assert found("nas") == ["198.51.100.10", "2001:db8:1::1"]
    assert found("laptop") == ["198.51.100.10", "2001:db8:1::11"]
    assert found("third") == ["203.0.113.42"]
    assert found("phone") == ["2001:db8:5::16"]


def test_thirty_machines_get_a_range_that_holds_them() -> None:
    machines = {f"m{number}": {"site": "hosting"} for number in range(30)}
    sites = {"hosting": {"router": {"nat": "none"}}}
    config = schema.parse({"sites": sites, "machines": machines, "admin": {"site": "hosting"}})
    own = plan(config).sites["hosting"]
    assert own.lan4 == ip_network("203.0.113.0/26")
    assert len(set(own.residents4.values())) == 30
