"""A router as text: its addresses, its nftables rules, its DHCP, router advertisements and DNS."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, TypeAlias

from clan.lab.addresses import HOME, PROVIDER, SERVER_V4, SERVER_V6
from clan.lab.config import LetsOut, Nat, host_name

if TYPE_CHECKING:
    from clan.lab.addresses import SiteAddresses
    from clan.lab.config import Forward, Router, Site

_Address: TypeAlias = IPv4Address | IPv6Address

TOWARDS = "fe80::1"
"""The end of an uplink that is nearer to the internet."""
HOMEWARDS = "fe80::2"
"""The other end."""

QUICK = (
    "ipv6/conf/default/accept_dad=0",
    # A lost ARP answer costs a second by default, and a port's first answer often is lost.
    "ipv4/neigh/default/retrans_time_ms=50",
    "ipv6/neigh/default/retrans_time_ms=50",
)
SYSCTLS = (
    "ipv4/ip_forward=1",
    "ipv6/conf/all/forwarding=1",
    "ipv4/conf/all/rp_filter=0",
    "ipv4/conf/default/rp_filter=0",
    *QUICK,
)

UPLINK6 = (
    "link set wan up",
    f"address add {HOMEWARDS}/64 dev wan nodad",
    f"route add default via {TOWARDS} dev wan",
)

CUTS = """\
table inet cuts {
  chain coming {
    type filter hook prerouting priority -400; policy accept;
  }
  chain going {
    type filter hook postrouting priority 400; policy accept;
  }
}
"""
"""Where `clan lab cut` puts its rules: empty until then."""

PROVIDER_RULES = """\
table inet router {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wan" ct state new drop
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" accept
    meta nfproto ipv6 accept
  }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "wan" masquerade
  }
}
"""

DNSMASQ = ("user=root", "group=root", "pid-file=", "no-hosts", "no-resolv", "log-facility=-")

_LETS_OUT = {
    LetsOut.ALL: "accept",
    LetsOut.NO_UDP: "meta l4proto != udp accept",
    LetsOut.TCP_443: "tcp dport 443 accept",
}

# A full cone remembers who inside has which port, for every UDP packet that leaves, and leads what
# comes to that port there, whoever sent it. Two machines that use the same port share it outside:
# what is not an answer goes to the one that sent last.
_CONE_MAP = """\
  map cone {
    type inet_service : ipv4_addr; flags dynamic,timeout; timeout 5m; size 65535;
  }
"""


_LOSS = """\
table inet loss {{
  chain {device} {{
    type filter hook prerouting priority -390;
    iifname "{device}" numgen random mod 10000 < {lost} counter drop
  }}
}}
"""


def addresses(site: Site, own: SiteAddresses) -> tuple[str, ...]:
    """Return the `ip -batch` lines that give a router its addresses and routes."""
    lines = ["link set lo up", "link set lan up", "link set wan up"]
    if own.router4:
        lines.append(f"address add {own.router4} dev lan")
        if site.router.nat is Nat.CGNAT:
            lines += [f"address add {HOME} dev wan", f"route add default via {PROVIDER.ip}"]
        else:
            lines += uplink4(own)
    if own.router6:
        lines += [f"address add {own.router6} dev lan nodad", *UPLINK6]
    return tuple(lines)


def uplink4(own: SiteAddresses) -> tuple[str, ...]:
    """Return the `ip -batch` lines of a public IPv4 uplink: one address, everything by it."""
    return (
        "link set wan up",
        f"address add {own.public4}/32 dev wan",
        f"route add {SERVER_V4} dev wan",
        f"route add default via {SERVER_V4} dev wan",
    )


def shape(device: str, of: Router) -> tuple[str, ...]:
    """Return the `ip -batch` lines that make an uplink's end ready to be delayed, lost or slowed.

    A delayed uplink is two TAPs with `clan.lab.delay` between them. Loss and rate want frames as
    they are on a real wire: without this the kernel passes 64 KiB at once.
    """
    tap = (f"tuntap add dev {device} mode tap",) if of.delay else ()
    return (*tap, f"link set {device} gso_max_segs 1") if of.loss or of.rate else tap


def rate(device: str, of: Router) -> tuple[str, ...]:
    """Return the `tc -batch` lines that limit what leaves by `device`: a tenth of a second deep."""
    if not of.rate:
        return ()
    burst = max(of.rate // 8 // 100, 3200)
    return (f"qdisc add dev {device} root tbf rate {of.rate}bit burst {burst} latency 100ms",)


def loss(device: str, of: Router) -> tuple[str, ...]:
    """Return the rules that lose an uplink's share of what comes in by `device`."""
    if not of.loss:
        return ()
    lost = round(of.loss * 10_000)
    return (_LOSS.format(device=device, lost=lost),)


def rules(site: Site, own: SiteAddresses) -> str:
    """Return a router's nftables ruleset."""
    allowed = _LETS_OUT[site.router.lets_out]
    if site.router.nat is Nat.NONE:
        return _open_rules(allowed)
    return _closed_rules(allowed) + _nat(site.router, own)


def _open_rules(allowed: str) -> str:
    """Pass everything in; what the site may send is limited all the same."""
    return f"""\
table inet router {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "wan" accept
    iifname "lan" oifname "lan" accept
    iifname "lan" {allowed}
  }}
}}
"""


def _closed_rules(allowed: str) -> str:
    """Pass in only answers and what is forwarded.

    The router's own new input from outside is dropped: a router that accepts it answers a hole
    puncher's first packet, and the mapping made by that answer spoils the hole.
    """
    return f"""\
table inet router {{
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "wan" ct state new drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ct status dnat accept
    iifname "lan" oifname "lan" accept
    iifname "lan" {allowed}
  }}
}}
"""


def _nat(of: Router, own: SiteAddresses) -> str:
    """Return what the router translates; a machine inside may use the outside address too."""
    text = ""
    if own.public4:
        wan = HOME.ip if of.nat is Nat.CGNAT else own.public4
        masquerade = "masquerade fully-random" if of.nat is Nat.SYMMETRIC else "masquerade"
        arriving = [_lead(forward, wan, own.residents4[forward.machine]) for forward in of.forward]
        leaving = [f'oifname "wan" {masquerade}']
        if of.nat is Nat.FULL_CONE:
            arriving.append(f"ip daddr {wan} meta l4proto udp dnat to udp dport map @cone")
            leaving.insert(
                0, 'oifname "wan" meta l4proto udp update @cone { udp sport : ip saddr }'
            )
        text += _table("ip", _CONE_MAP if of.nat is Nat.FULL_CONE else "", arriving, leaving)
    if own.router6 and of.forward:
        wan6 = own.router6.ip
        arriving = [_lead(forward, wan6, own.residents6[forward.machine]) for forward in of.forward]
        text += _table("ip6", "", arriving, [])
    return text


def _lead(forward: Forward, wan: _Address, machine: _Address) -> str:
    """Return the rule that leads a forwarded port to its machine."""
    family, to = ("ip6", f"[{machine}]") if isinstance(machine, IPv6Address) else ("ip", machine)
    port = f"{forward.protocol} dport {forward.port}"
    return f"{family} daddr {wan} {port} dnat to {to}:{forward.to_port}"


def _table(family: str, sets: str, arriving: list[str], leaving: list[str]) -> str:
    """Return a NAT table; what a machine sends its own router's outside comes back inside."""
    hairpin = 'iifname "lan" oifname "lan" ct status dnat masquerade'
    prerouting = "".join(f"    {rule}\n" for rule in arriving)
    postrouting = "".join(f"    {rule}\n" for rule in [*leaving, hairpin])
    return (
        f"table {family} nat {{\n{sets}"
        "  chain prerouting {\n    type nat hook prerouting priority -100;\n"
        f"{prerouting}  }}\n"
        "  chain postrouting {\n    type nat hook postrouting priority 100;\n"
        f"{postrouting}  }}\n"
        "}\n"
    )


def dnsmasq(own: SiteAddresses) -> str:
    """Return the configuration of a router's DHCP, router advertisements and DNS."""
    lines = [*DNSMASQ, "interface=lan", "except-interface=lo", "bind-dynamic", "no-ping"]
    lines += ["domain=lan", "local=/lan/", "dhcp-authoritative", "leasefile-ro"]
    if own.lan4 and own.pool:
        first, last = own.pool
        lines += [f"server={SERVER_V4}", f"dhcp-range={first},{last},{own.lan4.netmask},1h"]
        lines += [f"dhcp-host={host_name(name)},{to}" for name, to in own.residents4.items()]
    if own.lan6:
        lines += [f"server={SERVER_V6}", "enable-ra", f"dhcp-range={own.lan6[0]},ra-only,64,1h"]
    return "\n".join(lines) + "\n"
