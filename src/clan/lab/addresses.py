"""Who has which address in a lab: a pure function of its config.

The internet is made of the ranges kept for documentation (RFC 5737, RFC 3849):

    198.51.100.0/25   .1 is the name server and the repository, .10 and up the routers
    203.0.113.0/24    the LANs of sites without NAT, then 198.51.100.128/25
    2001:db8::/32     ::1 is the name server, 2001:db8:N::/64 the LAN of site number N
    100.64.0.0/30     between a home router and its provider's, where NAT is "cgnat"

A LAN's first address is its router's, its second the admin's, the tenth and later the machines'.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING

from clan.errors import Fault
from clan.lab.config import Nat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.lab.config import LabConfig, Machine

CAPACITY = 100
"""How many sites a lab may have: routers' addresses end before the public LANs begin."""

SERVER_V4 = IPv4Address("198.51.100.1")
SERVER_V6 = IPv6Address("2001:db8::1")
PROVIDER = IPv4Interface("100.64.0.1/30")
"""The provider's side of a home router's uplink, where the provider translates too."""
HOME = IPv4Interface("100.64.0.2/30")
"""The home's side of it."""

_CORE = IPv4Network("198.51.100.0/25")
_PUBLIC = (IPv4Network("203.0.113.0/24"), IPv4Network("198.51.100.128/25"))
_PRIVATE = IPv4Network("192.168.1.0/24")
_FIRST_ROUTER = 10
_FIRST_MACHINE = 10
_FIRST_TOKEN = 0x10
_SPARE = 8
"""Addresses a LAN keeps for machines that move to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteAddresses:
    """One site's addresses; None where the site does not speak that version of IP."""

    index: int
    lan4: IPv4Network | None
    lan6: IPv6Network | None
    public4: IPv4Address | None
    """The address its router, or its provider's, has on the internet."""
    residents4: Mapping[str, IPv4Address]
    """What its DHCP gives to the machines whose place it is."""
    residents6: Mapping[str, IPv6Address]
    """What those machines give themselves."""

    @property
    def router4(self) -> IPv4Interface | None:
        """The router's address on the LAN."""
        return _host4(self.lan4, 1)

    @property
    def router6(self) -> IPv6Interface | None:
        """The router's address on the LAN, which is public."""
        return _host6(self.lan6, 1)

    @property
    def admin4(self) -> IPv4Interface | None:
        """The admin's address when at this site."""
        return _host4(self.lan4, 2)

    @property
    def admin6(self) -> IPv6Interface | None:
        """The admin's address when at this site."""
        return _host6(self.lan6, 2)

    @property
    def pool(self) -> tuple[IPv4Address, IPv4Address] | None:
        """First and last address that DHCP hands out."""
        if self.lan4 is None:
            return None
        return self.lan4[_FIRST_MACHINE], self.lan4[-2]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPlan:
    """Everyone's addresses, and the faults of a config that cannot be given any."""

    sites: Mapping[str, SiteAddresses]
    tokens: Mapping[str, int]
    """Machine -> the last 64 bits of its IPv6 address, wherever it is."""
    faults: tuple[Fault, ...]


def plan(config: LabConfig) -> AddressPlan:
    """Give every site its ranges and every machine its addresses."""
    faults: list[Fault] = []
    ranges = _lans(config, faults)
    sites = {}
    tokens = {name: _FIRST_TOKEN + index for index, name in enumerate(config.machines)}
    for index, (name, site) in enumerate(config.sites.items()):
        lan4 = ranges.get(name)
        lan6 = IPv6Network((0x20010DB8 << 96 | (index + 1) << 80, 64)) if site.has_v6 else None
        at_home = {key: m for key, m in config.machines.items() if m.site == name}
        sites[name] = SiteAddresses(
            index=index,
            lan4=lan4,
            lan6=lan6,
            public4=_CORE[_FIRST_ROUTER + index] if site.has_v4 else None,
            residents4=_residents(name, lan4, at_home, faults),
            residents6={key: lan6[tokens[key]] for key in at_home} if lan6 else {},
        )
    return AddressPlan(sites=sites, tokens=tokens, faults=tuple(faults))


def _lans(config: LabConfig, faults: list[Fault]) -> dict[str, IPv4Network]:
    """Choose each site's IPv4 range; only private ones may be the same at several sites."""
    ranges: dict[str, IPv4Network] = {}
    public: list[IPv4Network] = [_CORE]
    wanting: list[str] = []
    for name, site in config.sites.items():
        if not site.has_v4:
            if site.lan:
                message = 'has a range for IPv4, and ip = "6"'
                faults.append(Fault(message=message, key=("sites", name, "lan")))
        elif site.lan is None and site.router.nat is Nat.NONE:
            wanting.append(name)
        else:
            ranges[name] = site.lan or _PRIVATE
            taken = public if site.router.nat is Nat.NONE else [_CORE]
            if any(ranges[name].overlaps(other) for other in taken):
                message = f"{ranges[name]} overlaps another public range of the lab"
                faults.append(Fault(message=message, key=("sites", name, "lan")))
            if site.router.nat is Nat.NONE:
                public.append(ranges[name])
    for name in wanting:
        chosen = next(_fitting(name, config, public), None)
        if chosen is None:
            message = "no public range is left for it"
            hint = "give it, or another site without NAT, a `lan` of its own"
            faults.append(Fault(message=message, key=("sites", name), hint=hint))
            continue
        ranges[name] = chosen
        public.append(chosen)
    return ranges


def _fitting(name: str, config: LabConfig, taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    """Yield the free public ranges that hold a site's machines and their fixed addresses."""
    machines = [machine for machine in config.machines.values() if machine.site == name]
    size = _FIRST_MACHINE + len(machines) + _SPARE + 1
    prefix = min(27, 32 - size.bit_length())
    fixed = [machine.address for machine in machines if machine.address]
    for block in _PUBLIC:
        if prefix < block.prefixlen:
            continue
        for candidate in block.subnets(new_prefix=prefix):
            holds = all(address in candidate for address in fixed)
            if holds and not any(candidate.overlaps(other) for other in taken):
                yield candidate


def _residents(
    site: str, lan: IPv4Network | None, machines: Mapping[str, Machine], faults: list[Fault]
) -> dict[str, IPv4Address]:
    """Give a site's machines their addresses, the fixed ones first."""
    given: dict[str, IPv4Address] = {}
    for name, machine in machines.items():
        if machine.address is None:
            continue
        key = ("machines", name, "address")
        if lan is None or machine.address not in (pool := list(lan)[_FIRST_MACHINE:-1]):
            where = f"{pool[0]} to {pool[-1]}" if lan else "no IPv4 there"
            message = f"{machine.address} is not one of {site!r}'s for machines ({where})"
            faults.append(Fault(message=message, key=key))
        elif machine.address in given.values():
            faults.append(Fault(message=f"{machine.address} is given twice", key=key))
        else:
            given[name] = machine.address
    if lan is None:
        return given
    free = (host for host in list(lan)[_FIRST_MACHINE:-1] if host not in set(given.values()))
    for name, machine in machines.items():
        if machine.address is None:
            address = next(free, None)
            if address is None:
                message = f"{lan} is too small for {len(machines)} machines"
                faults.append(Fault(message=message, key=("sites", site, "lan")))
                break
            given[name] = address
    return given


def public_addresses(
    config: LabConfig, addresses: AddressPlan, machine: str
) -> tuple[IPv4Address | IPv6Address, ...]:
    """Return where the internet finds a machine: itself, or the router that forwards to it."""
    place = config.machines[machine].site
    site, own = config.sites[place], addresses.sites[place]
    forwarded = any(forward.machine == machine for forward in site.router.forward)
    v4 = own.residents4.get(machine) if site.router.nat is Nat.NONE else own.public4
    v6 = own.router6.ip if forwarded and own.router6 else own.residents6.get(machine)
    return tuple(address for address in (v4, v6) if address)


def _host4(network: IPv4Network | None, number: int) -> IPv4Interface | None:
    return IPv4Interface((network[number], network.prefixlen)) if network else None


def _host6(network: IPv6Network | None, number: int) -> IPv6Interface | None:
    return IPv6Interface((network[number], network.prefixlen)) if network else None
