"""An internet for agents in namespaces: a core that routes, homes behind routers, servers, cafés.

Every home has 192.168.1.0/24, as most do. The core knows nothing of what is behind a router, but
for the IPv6 that it gives to a home.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from tests.lab.agents import Box
from tests.lab.conntrack import forget_connections
from tests.lab.spaces import Space, join

if TYPE_CHECKING:
    from pathlib import Path


class _Removable(Protocol):
    def remove(self) -> None: ...


T = TypeVar("T", bound=_Removable)

NAT = """
table inet nat {{
    chain post {{
        type nat hook postrouting priority 100;
        meta nfproto ipv6 accept
        oifname "wan" meta l4proto {{ tcp, udp }} masquerade {how}
        oifname "wan" masquerade
    }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan" accept
    }}
    chain input {{
        type filter hook input priority 0;
        meta l4proto ipv6-icmp accept
        iifname "wan" ct state new drop
    }}
}}
"""
SILENT = """
table inet silent
delete table inet silent
table inet silent {
    chain output {
        type filter hook output priority 0;
        ip protocol icmp drop
    }
}
"""
DEAD = """
table inet dead {
    chain forward {
        type filter hook forward priority -10;
        iifname "wan" drop
        oifname "wan" drop
    }
}
"""


SYMMETRIC = "random,fully-random"
"""How a router translates that gives each flow a port of its own."""
_PORTS = itertools.count(1)


class Switch:
    """A LAN without a router: a bridge."""

    def __init__(self, space: Space | None = None, network: str = "10.20.30") -> None:
        self.space = space or Space()
        self.network = network
        self._hosts = itertools.count(2)
        self._ports = _PORTS
        self._plugged: dict[tuple[str, str], str] = {}
        self.space.run("ip link add lan type bridge forward_delay 0")
        self.space.run("ip link set lan up")
        # Or the rules of a router would meddle with what its switch passes on.
        for each in ("iptables", "ip6tables"):
            self.space.run(f"sysctl -qw net.bridge.bridge-nf-call-{each}=0")

    def plug(self, box: Box, uplink: str = "eth0") -> str:
        """Lay a cable from a machine; it gets an address of the LAN."""
        port = f"port{next(self._ports)}"
        join(box.space, uplink, self.space, port)
        return self._attach(box, uplink, port)

    def move(self, box: Box, uplink: str, to: Switch) -> str:
        """Take a machine's cable, or its Wi-Fi, to another LAN."""
        port, there = self._plugged.pop((box.name, uplink)), f"port{next(to._ports)}"
        self.space.run(f"ip link set {port} down nomaster")
        time.sleep(0.5)
        box.space.run(f"ip -4 addr flush dev {uplink}")
        self.space.run(f"ip link set {port} netns {to.space.name} name {there}")
        to.space.run(f"ip link set {there} up")
        return to._attach(box, uplink, there)

    def _attach(self, box: Box, uplink: str, port: str) -> str:
        self._plugged[box.name, uplink] = port
        self.space.run(f"ip link set {port} master lan")
        address = f"{self.network}.{next(self._hosts)}"
        box.space.run(f"ip addr add {address}/24 dev {uplink}")
        return address

    def isolate(self) -> None:
        """Let no machine that is plugged in now reach another, as Wi-Fi for guests does."""
        for port in self._plugged.values():
            self.space.run(f"ip link set {port} type bridge_slave isolated on")

    def rules(self, text: str) -> None:
        """Give the box in the middle rules of nftables."""
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)

    def remove(self) -> None:
        self.space.remove()


class Home(Switch):
    """A LAN behind a router that translates; `how` is `random` for a symmetric one.

    It is a customer of the internet, or of a provider that translates once more.
    """

    def __init__(
        self, internet: Internet | Home, how: str = "", network: str = "192.168.1"
    ) -> None:
        super().__init__(network=network)
        self.six = ""
        self.space.run(f"ip addr add {network}.1/24 dev lan")
        self.space.run("sysctl -qw net.ipv4.ip_forward=1")
        self.address = internet.attach(self.space, "wan")
        self.rules(NAT.format(how=how))

    def attach(self, space: Space, uplink: str) -> str:
        """Take a customer's router, as a provider does who has addresses for nobody."""
        port = f"port{next(self._ports)}"
        join(space, uplink, self.space, port)
        self.space.run(f"ip link set {port} master lan")
        address = f"{self.network}.{next(self._hosts)}"
        space.run(f"ip addr add {address}/24 dev {uplink}")
        space.run(f"ip route add default via {self.network}.1 dev {uplink} metric 100")
        return address

    def reboot(self, how: str = "") -> None:
        """Forget all translations, and translate in some way from now on."""
        self.space.run("nft delete table inet nat")
        self.rules(NAT.format(how=how))
        with self.space.inside():
            forget_connections()

    def die(self) -> None:
        """Let nothing pass, while the LAN is as it was."""
        self.rules(DEAD)

    def live(self) -> None:
        self.space.run("nft delete table inet dead")

    def _attach(self, box: Box, uplink: str, port: str) -> str:
        address = super()._attach(box, uplink, port)
        metric = 600 if uplink.startswith("wlan") else 100
        box.space.run(f"ip route add default via {self.network}.1 dev {uplink} metric {metric}")
        if self.six:
            host = address.rpartition(".")[2]
            box.space.run(f"ip -6 addr add {self.six}:{host}/64 dev {uplink}")
            box.space.run(f"ip -6 route add default via {self.six}:1 dev {uplink} metric {metric}")
        return address


class Internet:
    """The core."""

    def __init__(self) -> None:
        self.space = Space()
        self.space.run("sysctl -qw net.ipv4.ip_forward=1")
        self._numbers = itertools.count(1)
        self._homes: dict[str, int] = {}

    def attach(self, space: Space, uplink: str) -> str:
        """Give a router or a server a cable and a public address of its own."""
        number = self._homes[space.name] = next(self._numbers)
        network = f"203.0.{112 + number // 64}.{number % 64 * 4}"
        stem, _, last = network.rpartition(".")
        core, there = f"{stem}.{int(last) + 1}", f"{stem}.{int(last) + 2}"
        join(space, uplink, self.space, f"to{number}")
        self.space.run(f"ip addr add {core}/30 dev to{number}")
        space.run(f"ip addr add {there}/30 dev {uplink}")
        space.run(f"ip route add default via {core} dev {uplink} metric 100")
        return there

    def plug(self, box: Box, uplink: str = "eth0") -> str:
        """Make a machine a server."""
        return self.attach(box.space, uplink)

    def narrow(self, home: Home, mtu: int) -> None:
        """Take no longer packets from a home, nor send it any; never say so."""
        self.space.run(f"ip link set to{self._homes[home.space.name]} mtu {mtu}")
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input=SILENT.encode(), check=True)

    def six(self, home: Home) -> None:
        """Give a home IPv6, behind its router that lets in only what was asked for.

        Machines that are plugged in from then on have an address each.
        """
        home.six = f"2001:db8:{self._homes[home.space.name]:x}:"
        home.space.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        far = self.six_at(home.space, "wan")
        self.space.run(f"ip -6 route add {home.six}:/64 via {far}")
        home.space.run(f"ip -6 addr add {home.six}:1/64 dev lan")

    def six_at(self, space: Space, uplink: str = "eth0") -> str:
        """Give a router or a server an address by IPv6 as well."""
        number = self._homes[space.name]
        network = f"2001:db8:f{number:x}:"
        self.space.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        self.space.run(f"ip -6 addr add {network}:1/64 dev to{number}")
        space.run(f"ip -6 addr add {network}:2/64 dev {uplink}")
        space.run(f"ip -6 route add default via {network}:1")
        return f"{network}:2"

    def remove(self) -> None:
        self.space.remove()


class Town:
    """All that a test makes: machines, LANs and homes, taken away in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = contextlib.ExitStack()
        self.internet = Internet()
        self._made.callback(self.internet.remove)

    def boxes(self, *names: str) -> list[Box]:
        """Return machines that are plugged in nowhere."""
        return [self._keep(Box(name, self._folder)) for name in names]

    def switch(self, network: str = "10.20.30") -> Switch:
        """Return a LAN with no router."""
        return self._keep(Switch(network=network))

    def home(self, how: str = "", provider: Home | None = None, network: str = "192.168.1") -> Home:
        """Return a LAN behind a router that translates, and perhaps a provider that does so too."""
        return self._keep(Home(provider or self.internet, how, network))

    def remove(self) -> None:
        self._made.close()

    def _keep(self, made: T) -> T:
        self._made.callback(made.remove)
        return made
