"""What a member of a WireGuard network must have, worked out from the clan and the public keys.

**Which packet goes where.** A WireGuard interface sends a packet to the peer whose AllowedIPs hold
its destination by the longest prefix, and takes one from a peer only if they hold its source.

- On a peer each controller has its own /56, and there is a route for each. The /56 are disjoint, so
  a packet to any machine's address in a controller's subnet goes to just that controller.
- What it is sent *from* must be our address in the same subnet, or the far end drops the answer.
  The kernel sees to that: of several addresses it takes the one that shares the longest prefix with
  the destination (RFC 6724, rule 8), and only that one shares 56 bits.
- A controller allows each peer its /96 in *every* controller's subnet. In its own, that is how it
  hands packets on from one peer to another. In those of others, it is how it reaches a peer that
  answers from there: /96 is longer than the other controller's /56, so the packet takes the direct
  tunnel. And it is what lets a live controller carry a dead one's subnet.
- A controller's other destinations are the controllers: each has its /56, of which ::1 is left.
- All have the same routes, one /56 for each controller; own addresses are /128, so that nothing
  else makes routes, and `ip -6 route show dev INTERFACE` shows just these.

Both directions of a connection between two peers are in the subnet of the address that was dialled:
they go through one controller. When it is dead, `clan.machine.wireguard.agent` gives its /56 to a
live one on every peer, and the connection goes on.

**Forwarding.** A machine that forwards IPv6 no longer takes its own default route from router
advertisements, and at once loses the one it has, unless its interface has accept_ra=2 by then
(Linux, ip-sysctl, accept_ra). `all` sets nothing there, so each interface gets it that has 1 now;
where networkd or NetworkManager does this itself there is 0, and stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.machine.wireguard.carriers import TELLING
from clan.model.exports import Var
from clan.model.plan import (
    Due,
    Forwarding,
    HealthCheck,
    HostName,
    Key,
    KnownHost,
    Opening,
    Package,
    Protocol,
    StaticProgram,
    Sysctl,
    Unit,
    WireguardCarrier,
    WireguardLink,
    WireguardListener,
    WireguardPeer,
)
from clan.modules.wireguard import keys
from clan.modules.wireguard.addresses import (
    controller_address,
    peer_address,
    subnet,
    suffix,
    written,
)
from clan.modules.wireguard.settings import (
    ControllerSettings,
    WireguardSettings,
    addresses_of,
    domain_of,
)
from clan.vars.store import HOST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.clan import Clan, Instance
    from clan.model.module import Values
    from clan.model.plan import Resource

CONTROLLER = "controller"
KEEPALIVE = 25
"""Seconds between packets to a controller: less than NATs forget a UDP flow in (wg(8)).

Controllers send them to each other too: the first shakes hands, so one that was started anew is
reached at once. Without it the others would notice after 15 s that it has forgotten them.
"""

_CARRY = """\
[Unit]
Description=Stand-ins for dead controllers of the WireGuard network {name}
After=clan-boot.service

[Service]
ExecStart=/usr/bin/python3 -I /var/lib/clan/current/machine.pyz carry {name}
Restart=always
RestartSec=1
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
"""

_UP = 'ip -o link show up dev "$0" | grep -q . && wg show "$0" listen-port'
_LISTENS = 'test "$(wg show "$0" listen-port)" = "$1"'


def resources(
    machine: str, role: str, instance: Instance, clan: Clan, values: Values
) -> Iterator[Resource]:
    """Yield what a member must have, in a fixed order; the same for the same clan and values."""
    name = instance.name
    yield Package(name="wireguard-tools")
    yield StaticProgram(name="wireguard-go")
    yield Key(
        path=keys.private_path(name),
        kind="wireguard",
        generator=keys.generator_name(name),
        public=values.public(keys.public_var(name, machine)),
    )
    port = None
    if role == CONTROLLER:
        port = ControllerSettings.of(instance.members[CONTROLLER][machine]).port
        yield Opening(protocol=Protocol.UDP, port=port)
        yield Sysctl(key="net.ipv6.conf.*.accept_ra", value="2", instead_of="1")
        yield Sysctl(key="net.ipv6.conf.all.forwarding", value="1")
        yield Forwarding(interface=name)
    yield link(machine, role, port, instance, values)
    if len(instance.members[CONTROLLER]) > 1:
        yield Opening(protocol=Protocol.UDP, port=TELLING, interface=name)
        yield Unit(name=f"clan-carry-{name}.service", text=_CARRY.format(name=name))
    yield from names(instance, clan, values)
    yield HealthCheck(name=f"the interface {name} is up", command=("sh", "-c", _UP, name))
    if port is not None:
        yield HealthCheck(
            name=f"{name} listens on UDP port {port}",
            command=("sh", "-c", _LISTENS, name, str(port)),
        )
    for member in (*instance.members[CONTROLLER], *instance.members["peer"]):
        if values.public(keys.public_var(name, member)) is None:
            yield Due(
                var=keys.public_var(name, member),
                why=f"{member} makes its key at its next update"
                + ("" if member == machine else "; until then it is no peer here"),
            )


def link(
    machine: str, role: str, port: int | None, instance: Instance, values: Values
) -> WireguardLink:
    """Return the interface of a member; far ends whose public key is not there yet are left out."""
    name = instance.name
    controllers = instance.members[CONTROLLER]
    peers: list[WireguardPeer] = []

    def add(
        far: str, allowed: tuple[str, ...], endpoint: str | None, keepalive: int | None
    ) -> None:
        key = values.public(keys.public_var(name, far))
        if key is not None and far != machine:
            peers.append(
                WireguardPeer(
                    name=far,
                    public_key=key,
                    allowed_ips=allowed,
                    endpoint=endpoint,
                    keepalive=keepalive,
                )
            )

    for controller, member in controllers.items():
        allowed = (subnet_of(name, controller),)
        settings = ControllerSettings.of(member)
        add(controller, allowed, endpoint(settings), KEEPALIVE)
    if role == CONTROLLER:
        for peer in instance.members["peer"]:
            each = tuple(peer_subnet(name, controller, peer) for controller in controllers)
            add(peer, each, None, None)
        own = [controller_address(name, machine)]
    else:
        own = [peer_address(name, controller, machine) for controller in controllers]
    carriers: tuple[WireguardCarrier, ...] = ()
    listeners: tuple[WireguardListener, ...] = ()
    if len(controllers) > 1:
        known = {machine, *(peer.name for peer in peers)}
        carriers = tuple(
            WireguardCarrier(
                name=each,
                subnet=subnet_of(name, each),
                address=controller_address(name, each),
            )
            for each in controllers
            if each in known
        )
        if role == CONTROLLER:
            listeners = tuple(
                WireguardListener(name=each, address=peer_address(name, machine, each))
                for each in instance.members["peer"]
                if each in known
            )
    return WireguardLink(
        name=name,
        private_key=keys.private_path(name),
        addresses=tuple(f"{address}/128" for address in own),
        routes=tuple(subnet_of(name, controller) for controller in controllers),
        peers=tuple(peers),
        mtu=WireguardSettings.of(instance).mtu,
        port=port,
        carriers=carriers,
        listeners=listeners,
    )


def names(instance: Instance, clan: Clan, values: Values) -> Iterator[HostName | KnownHost]:
    """Yield each member's names and, where its host key is known, what ssh demands of it there."""
    domain = domain_of(instance)
    for member, addresses in addresses_of(instance).items():
        # The host's name first: it is what a name looked up by address gives.
        called = dict.fromkeys((clan.machines[member].host_name, member))
        full = tuple(f"{each}.{domain}" for each in called)
        for each in full:
            yield HostName(name=each, addresses=addresses)
        generator, file = HOST_KEY
        known = values.public(Var(machine=member, generator=generator, file=file)) or ""
        # Two while the machine goes from one key to the next.
        for key in known.splitlines():
            yield KnownHost(names=(*full, *addresses), key=" ".join(key.split()[:2]))


def endpoint(settings: ControllerSettings) -> str:
    """Return a controller's public name or address, and its port."""
    host = settings.endpoint
    return f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"


def subnet_of(instance: str, controller: str) -> str:
    """Return a controller's /56."""
    return f"{written(subnet(instance, controller))}/56"


def peer_subnet(instance: str, controller: str, peer: str) -> str:
    """Return a peer's /96 in a controller's subnet: its suffix's first 32 bits."""
    return f"{written(subnet(instance, controller) | suffix(peer) >> 32 << 32)}/96"
