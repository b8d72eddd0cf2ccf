"""Home routers that open ports when they are asked: Debian's miniupnpd beside a home's rules."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

from tests.lab.links import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.internet import Home

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


class Gateway:
    """A home's miniupnpd: PCP and NAT-PMP, or UPnP, or all of it; `old` is UPnP's version 1."""

    def __init__(
        self, home: Home, folder: Path, *, natpmp: bool = True, upnp: bool = True, old: bool = False
    ) -> None:
        self.space = home.space
        self._folder = folder
        folder.mkdir()
        said = {"natpmp": natpmp, "upnp": upnp, "old": old}
        words = {key: "yes" if value else "no" for key, value in said.items()}
        (folder / "conf").write_text(SAID.format(folder=folder, **words))
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input=RULES.encode(), check=True)
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
