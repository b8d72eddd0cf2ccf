"""The lab's network as a value: namespaces, links, rules and daemons. Pure; `network` applies it.

.lans       switches: a bridge for each site's LAN, every machine's cable in one of them
.site.X     the router of site X: `lan` into the switches, `wan` towards the internet
.isp.X      its provider's router, where NAT is "cgnat"
(the lab)   the internet: routes, the name server, the Debian repository; `upN` to each site
.admin      the admin's place: `lan` into the switches
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.lab import router
from clan.lab.addresses import PROVIDER, SERVER_V4, SERVER_V6, AddressPlan, plan, public_addresses
from clan.lab.config import Nat, Router

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.lab.addresses import SiteAddresses
    from clan.lab.config import LabConfig, Site

REPOSITORY_HOST = "deb.lab"
ADMIN_CABLE = "admin"
"""The switches' end of the admin's cable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A network namespace and what is set in it, in this order."""

    name: str
    sysctls: tuple[str, ...]
    """`path/below/proc/sys/net=value`."""
    ip: tuple[str, ...]
    """Lines for `ip -batch`."""
    tc: tuple[str, ...] = ()
    """Lines for `tc -batch`."""
    nft: str = ""
    """A ruleset for `nft -f`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A program that runs in a namespace for as long as the lab is up."""

    name: str
    namespace: str
    argv: tuple[str, ...]
    config: str = ""
    """Text of the file NAME.conf in the directory it is started in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All of a lab but its machines."""

    namespaces: tuple[Namespace, ...]
    links: tuple[str, ...]
    """Lines for `ip -batch` that make the links, once all namespaces are there."""
    daemons: tuple[Daemon, ...]


def internet_of(lab: str) -> str:
    """Name the namespace that is the lab's internet."""
    return f"clan-lab-{lab}"


def switches_of(lab: str) -> str:
    """Name the namespace that holds the LANs' bridges."""
    return f"clan-lab-{lab}.lans"


def router_of(lab: str, site: str) -> str:
    """Name the namespace of a site's router."""
    return f"clan-lab-{lab}.site.{site}"


def provider_of(lab: str, site: str) -> str:
    """Name the namespace of the provider's router in front of a site."""
    return f"clan-lab-{lab}.isp.{site}"


def admin_of(lab: str) -> str:
    """Name the namespace of the admin's computer."""
    return f"clan-lab-{lab}.admin"


def bridge_of(addresses: SiteAddresses) -> str:
    """Name the bridge that is a site's LAN."""
    return f"lan{addresses.index}"


def uplink_of(addresses: SiteAddresses) -> str:
    """Name the internet's end of a site's uplink."""
    return f"up{addresses.index}"


def build(lab: str, config: LabConfig, repository: str) -> Topology:
    """Lay out a lab's network; `repository` is the folder that its Debian repository serves."""
    addresses = plan(config)
    namespaces = [_internet(lab, config, addresses), _switches(lab, addresses), _admin(lab)]
    links = [_veth(admin_of(lab), "lan", switches_of(lab), ADMIN_CABLE)]
    daemons = [_name_server(lab, config, addresses), _repository(lab, repository)]
    for name, site in config.sites.items():
        own = addresses.sites[name]
        namespaces.append(_router(lab, name, site, own))
        links.append(_veth(router_of(lab, name), "lan", switches_of(lab), f"r{own.index}"))
        edge = router_of(lab, name)
        if site.router.nat is Nat.CGNAT:
            edge = provider_of(lab, name)
            namespaces.append(_provider(lab, name, site, own))
            links.append(_veth(router_of(lab, name), "wan", edge, "lan"))
        if site.router.delay:
            daemons.append(_delay(lab, name, edge, site, own))
        else:
            links.append(_veth(edge, "wan", internet_of(lab), uplink_of(own)))
        daemons.append(
            Daemon(
                name=f"router-{name}",
                namespace=router_of(lab, name),
                argv=("dnsmasq", "--keep-in-foreground", f"--conf-file=router-{name}.conf"),
                config=router.dnsmasq(own),
            )
        )
    return Topology(namespaces=tuple(namespaces), links=tuple(links), daemons=tuple(daemons))


def _veth(namespace: str, device: str, other: str, peer: str) -> str:
    return f"link add {device} netns {namespace} type veth peer name {peer} netns {other}"


def _internet(lab: str, config: LabConfig, addresses: AddressPlan) -> Namespace:
    lines = ["link set lo up"]
    lines += [f"address add {SERVER_V4}/32 dev lo", f"address add {SERVER_V6}/128 dev lo"]
    limits: list[str] = []
    rules = [router.CUTS]
    for name, site in config.sites.items():
        own = addresses.sites[name]
        up = uplink_of(own)
        lines += [*router.shape(up, site.router), f"link set {up} up"]
        if own.public4:
            lines.append(f"route add {own.public4} dev {up}")
        if own.lan4 and site.router.nat is Nat.NONE:
            lines.append(f"route add {own.lan4} via {own.public4} dev {up}")
        if own.lan6:
            lines.append(f"address add {router.TOWARDS}/64 dev {up} nodad")
            lines.append(f"route add {own.lan6} via {router.HOMEWARDS} dev {up}")
        limits += router.rate(up, site.router)
        rules += router.loss(up, site.router)
    return Namespace(
        name=internet_of(lab),
        sysctls=router.SYSCTLS,
        ip=tuple(lines),
        tc=tuple(limits),
        nft="\n".join(rules),
    )


def _switches(lab: str, addresses: AddressPlan) -> Namespace:
    """Lay out the switches: no addresses, so nothing on a LAN meets anything but who is on it."""
    lines = [f"link add {bridge_of(own)} type bridge mcast_snooping 0" for own in _sites(addresses)]
    for own in _sites(addresses):
        lines += [
            f"link set r{own.index} master {bridge_of(own)} up",
            f"link set {bridge_of(own)} up",
        ]
    return Namespace(
        name=switches_of(lab),
        # A computer that filters what its bridges pass would filter the lab's LANs too.
        sysctls=(
            "ipv6/conf/default/disable_ipv6=1",
            "bridge/bridge-nf-call-iptables=0",
            "bridge/bridge-nf-call-ip6tables=0",
            "bridge/bridge-nf-call-arptables=0",
        ),
        ip=tuple(lines),
        nft=router.CUTS.replace("table inet", "table bridge"),
    )


def _admin(lab: str) -> Namespace:
    """Leave the admin's place bare: `place_admin` gives it its site, now and at every move."""
    # Its addresses are the plan's: it does not take one more from the router's advertisements.
    sysctls = ("ipv6/conf/default/accept_ra=0", *router.QUICK)
    return Namespace(name=admin_of(lab), sysctls=sysctls, ip=("link set lo up",))


def place_admin(own: SiteAddresses) -> tuple[str, ...]:
    """Return the `ip -batch` lines that make the admin's computer one of a site's."""
    lines = ["link set lan down", "address flush dev lan", "link set lan up"]
    if own.admin4 and own.router4:
        lines += [f"address add {own.admin4} dev lan", f"route add default via {own.router4.ip}"]
    if own.admin6 and own.router6:
        lines += [
            f"address add {own.admin6} dev lan nodad",
            f"route add default via {own.router6.ip} dev lan",
        ]
    return tuple(lines)


def resolver_at(own: SiteAddresses) -> str:
    """Return the admin's resolv.conf at a site."""
    servers = (own.router4, own.router6)
    return "".join(f"nameserver {server.ip}\n" for server in servers if server) + "search lan\n"


def _router(lab: str, name: str, site: Site, own: SiteAddresses) -> Namespace:
    # What is slow, lossy or narrow is the way to the internet: the provider's, where there is one.
    uplink = Router() if site.router.nat is Nat.CGNAT else site.router
    return Namespace(
        name=router_of(lab, name),
        sysctls=router.SYSCTLS,
        ip=(*router.shape("wan", uplink), *router.addresses(site, own)),
        tc=router.rate("wan", uplink),
        nft="\n".join([router.rules(site, own), *router.loss("wan", uplink)]),
    )


def _provider(lab: str, name: str, site: Site, own: SiteAddresses) -> Namespace:
    lines = ["link set lo up", *router.shape("wan", site.router), "link set lan up"]
    if own.public4:
        lines += [f"address add {PROVIDER} dev lan", *router.uplink4(own)]
    else:
        lines.append("link set wan up")
    if own.lan6:
        lines += [
            f"address add {router.TOWARDS}/64 dev lan nodad",
            f"route add {own.lan6} via {router.HOMEWARDS} dev lan",
            *router.UPLINK6,
        ]
    return Namespace(
        name=provider_of(lab, name),
        sysctls=router.SYSCTLS,
        ip=tuple(lines),
        tc=router.rate("wan", site.router),
        nft="\n".join([router.PROVIDER_RULES, *router.loss("wan", site.router)]),
    )


def _delay(lab: str, name: str, edge: str, site: Site, own: SiteAddresses) -> Daemon:
    ends = (f"{edge}/wan", f"{internet_of(lab)}/{uplink_of(own)}")
    argv = (sys.executable, "-m", "clan.lab.delay", str(site.router.delay), *ends)
    return Daemon(name=f"delay-{name}", namespace=internet_of(lab), argv=argv)


def _name_server(lab: str, config: LabConfig, addresses: AddressPlan) -> Daemon:
    records = [f"host-record={REPOSITORY_HOST},{SERVER_V4},{SERVER_V6}"]
    for name, target in config.names.items():
        found = (
            public_addresses(config, addresses, target) if isinstance(target, str) else (target,)
        )
        records.append(",".join([f"host-record={name}", *map(str, found)]))
    lines = [*router.DNSMASQ, "local=//", "local=/#/", *records]
    return Daemon(
        name="names",
        namespace=internet_of(lab),
        argv=("dnsmasq", "--keep-in-foreground", "--conf-file=names.conf"),
        config="\n".join(lines) + "\n",
    )


def _repository(lab: str, folder: str) -> Daemon:
    server = ("-m", "http.server", "80", "--bind", "::", "--directory", folder)
    argv = (sys.executable, *server)
    return Daemon(name="repository", namespace=internet_of(lab), argv=argv)


def _sites(addresses: AddressPlan) -> Iterable[SiteAddresses]:
    return addresses.sites.values()
