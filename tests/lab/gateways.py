"""Home routers that open ports when they are asked: Debian's miniupnpd beside a home's rules."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from tests.lab.links import until

from clan.mesh.outside import pcp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.internet import Home
    from tests.lab.spaces import Space

RULES = """
table inet nat {
    chain miniupnpd {
    }
    chain prerouting_miniupnpd {
    }
    chain postrouting_miniupnpd {
    }
    chain prerouting {
        type nat hook prerouting priority -100;
        jump prerouting_miniupnpd
    }
    chain forward {
        jump miniupnpd
    }
}
"""
SAID = """\
ext_ifname=wan
listening_ip=lan
enable_natpmp={natpmp}
enable_upnp={upnp}
min_lifetime=60
upnp_table_name=nat
upnp_nat_table_name=nat
lease_file={folder}/leases
secure_mode=yes
uuid=8ee14b53-8f43-4a3e-b1b1-2a3a8e1a5a10
force_igd_desc_v1={old}
notify_interval=600
allow 1024-65535 0.0.0.0/0 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
NO_PCP = """
table inet no_pcp {
    chain input {
        type filter hook input priority -10;
        udp dport 5351 @th,64,8 2 drop
    }
}
"""
"""What PCP's requests begin with, and not NAT-PMP's: miniupnpd itself knows both or none."""


class Gateway:
    """A home's miniupnpd: PCP and NAT-PMP, or UPnP, or all of it; `old` is UPnP's version 1."""

    def __init__(
        self,
        home: Home,
        folder: Path,
        *,
        pcp: bool = True,
        natpmp: bool = True,
        upnp: bool = True,
        old: bool = False,
    ) -> None:
        self.space = home.space
        self._folder = folder
        folder.mkdir()
        said = {"natpmp": natpmp, "upnp": upnp, "old": old}
        words = {key: "yes" if value else "no" for key, value in said.items()}
        (folder / "conf").write_text(SAID.format(folder=folder, **words))
        with self.space.inside():
            rules = RULES if pcp else RULES + NO_PCP
            subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
        self.start()

    def start(self) -> None:
        words = ["miniupnpd", "-d", "-f", f"{self._folder}/conf", "-P", f"{self._folder}/pid"]
        log = (self._folder / "log").open("ab")
        with self.space.inside(), log:
            self._daemon = subprocess.Popen(words, stdout=log, stderr=log)
        until(
            lambda: ":5351" in self.space.run("ss -Huln") or ":1900" in self.space.run("ss -Huln")
        )
        time.sleep(0.2)

    def forget(self) -> None:
        """Lose all that was opened, as a router does that loses power."""
        self._daemon.kill()
        self._daemon.wait()
        for chain in ("miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"):
            self.space.run(f"nft flush chain inet nat {chain}")

    def open(self) -> list[int]:
        """Return the ports that lead inside now."""
        listed = self.space.run("nft -j list chain inet nat prerouting_miniupnpd")
        rules = [each["rule"]["expr"] for each in json.loads(listed)["nftables"] if "rule" in each]
        return sorted(
            each["match"]["right"]
            for rule in rules
            for each in rule
            if "match" in each and each["match"]["left"].get("payload", {}).get("field") == "dport"
        )

    def remove(self) -> None:
        self._daemon.kill()
        self._daemon.wait()


@contextlib.contextmanager
def lying(space: Space, answer: Callable[[bytes], bytes]) -> Iterator[None]:
    """Have the router at 192.168.1.1 answer questions of PCP as it likes."""
    with space.inside():
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("192.168.1.1", pcp.PORT))

    def serve() -> None:
        while True:
            data, source = listening.recvfrom(2000)
            if not data:
                return
            listening.sendto(answer(data), source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with space.inside(), socket.socket(type=socket.SOCK_DGRAM) as ending:
            ending.sendto(b"", ("192.168.1.1", pcp.PORT))
        thread.join()
        listening.close()


def said(
    data: bytes,
    *,
    nonce: bytes | None = None,
    inner: int | None = None,
    outer: int = 40000,
    address: str = "198.51.100.9",
    result: int = 0,
    life: int = 1200,
) -> bytes:
    """Answer a question of PCP's, or say that one of NAT-PMP's is not known."""
    if data[0] != 2:
        return struct.pack("!BBHL", 2, 0x80, 1, 0)
    head = struct.pack("!BBBBLL12x", 2, 0x81, 0, result, life, 7)
    asked, port = data[24:36], int.from_bytes(data[40:42])
    body = struct.pack("!12sB3xHH", nonce or asked, 17, port if inner is None else inner, outer)
    return head + body + bytes(10) + b"\xff\xff" + socket.inet_aton(address)
