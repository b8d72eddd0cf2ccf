"""What can be the matter with a machine of a mesh, each made on a real one, and undone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WIREGUARD_GO = "/var/lib/clan/current/static/wireguard-go"
WG_QUICK = f"WG_QUICK_USERSPACE_IMPLEMENTATION={WIREGUARD_GO} wg-quick"
AGAIN = "networkctl reconfigure host0; until ip route show default | grep -q .; do sleep 0.1; done"
"""Has systemd-networkd make addresses and routes anew."""
FULL = """\
[Interface]
PrivateKey = $(wg genkey)
Address = 10.99.0.2/32, fd99::2/128
[Peer]
PublicKey = $(wg genkey | wg pubkey)
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 192.0.2.1:51820
"""
KILL_SWITCH = """\
table inet vpn {
    chain out {
        type filter hook output priority 0; policy drop;
        oifname { "lo", "vpn0" } accept
        icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
        udp dport 53 accept
        tcp sport 22 accept
    }
}
"""
"""As programs of VPNs make it, whose resolver stands for theirs; the admin gets in."""

REFUSES = "OUTPUT ! -o vpn0 -m mark ! --mark 51820 -m addrtype ! --dst-type LOCAL -j REJECT"
"""The one that wg-quick(8) advises."""
ADMIN = "OUTPUT -p tcp --sport 22 -j ACCEPT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ailment:
    """Shell commands that make it and undo it, and what the doctor has to say of it."""

    make: str
    undo: str
    said: str
    hint: str = ""
    wrong: bool = False


NO_TUN = Ailment(
    make="mv /dev/net /dev/away; systemctl stop 'clan-wireguard-*'",
    undo="mv /dev/away /dev/net",
    said="cannot make WireGuard links: its kernel has none, and there is no /dev/net/tun",
    hint="a container needs /dev/net/tun from its host",
    wrong=True,
)
"""Where the kernel has no WireGuard."""
NO_IPV6 = Ailment(
    make="sysctl -qw net.ipv6.conf.lo.disable_ipv6=1",
    undo="sysctl -qw net.ipv6.conf.lo.disable_ipv6=0",
    said="IPv6 is switched off on laptop (disable_ipv6 of lo)",
    hint="take `disable_ipv6` out of /etc/sysctl.d",
    wrong=True,
)
IPV6_ALONE = Ailment(
    make="ip -4 route del default",
    undo=AGAIN,
    said="laptop has IPv6 alone: nothing leads to IPv4",
)
FULL_TUNNEL = Ailment(
    make="apt-get -qq update && apt-get -qq -y install wireguard-tools >/dev/null; umask 77; "
    f"cat >/root/full.conf <<END\n{FULL}END\n{WG_QUICK} up /root/full.conf 2>&1",
    undo=f"{WG_QUICK} down /root/full.conf 2>&1",
    said="a VPN on laptop takes all that leaves it; the mesh goes beside it",
)
NO_IPV6_UP = Ailment(
    make="sysctl -qw net.ipv6.conf.host0.disable_ipv6=1",
    undo=f"sysctl -qw net.ipv6.conf.host0.disable_ipv6=0; {AGAIN}",
    said="IPv6 is switched off on host0: only IPv4 is used there",
)
AILMENTS = [NO_TUN, NO_IPV6, IPV6_ALONE], [FULL_TUNNEL, NO_IPV6_UP]
"""All of the machine `laptop`; those that can be had together."""
RESTARTS = (
    ("nas", "systemctl restart ufw"),
    ("nas", "systemctl restart systemd-networkd"),
    ("desktop", "systemctl restart firewalld"),
    ("desktop", "networkctl reconfigure host0"),
)
"""What is restarted on which machine, and may take the mesh's rules and routes with it."""


def named(ailments: Sequence[Ailment], said: Sequence[Mapping[str, Any]]) -> list[Ailment]:
    """Return those that the doctor says."""
    return [
        each
        for each in ailments
        for one in said
        if each.said in one["message"]
        and each.hint in (one["hint"] or "")
        and each.wrong is one["wrong"]
    ]
