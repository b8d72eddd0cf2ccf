"""A home's addresses by DHCP: dnsmasq on its router, and udhcpc on a machine."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from tests.lab.links import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.agents import Box
    from tests.lab.internet import Home

SCRIPT = """\
#!/bin/sh
case $1 in
deconfig) ip -4 addr flush dev $interface ;;
bound|renew)
    ip addr replace $ip/24 dev $interface
    ip route replace default via $router dev $interface metric 100 ;;
esac
"""


class Leases:
    """They are from `first` on, until they are renumbered."""

    def __init__(self, home: Home, box: Box, uplink: str, folder: Path) -> None:
        self._home, self._box, self._uplink = home, box, uplink
        self._folder = folder
        self._script = folder / "script"
        self._script.write_text(SCRIPT)
        self._script.chmod(0o755)
        self._server: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None

    def serve(self, first: int) -> None:
        """Give out other addresses than before, and know nothing of those."""
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
        network = self._home.network
        words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]
        words += ["--user=root", "--pid-file=", "--interface=lan", "--bind-dynamic", "--no-ping"]
        words += ["--dhcp-authoritative", "--leasefile-ro", "--log-facility=-"]
        words += [f"--dhcp-range={network}.{first},{network}.{first + 9},2m"]
        self._server = self._run(self._home.space.name, words)
        until(lambda: ":67 " in self._home.space.run("ss -Huln"))

    def ask(self) -> None:
        """Have the machine ask for its address for as long as this lasts."""
        words = ["udhcpc", "-f", "-i", self._uplink, "-s", str(self._script)]
        self._client = self._run(self._box.space.name, words)
        until(self.address, 60)

    def renew(self) -> None:
        """Have it ask whether it may keep its address, as it does when half of the time is over."""
        assert self._client is not None
        self._client.send_signal(signal.SIGUSR1)

    def address(self) -> str:
        """Return the address that it has; empty while there is none."""
        shown: list[dict[str, Any]] = json.loads(
            self._box.space.run(f"ip -4 -j addr show dev {self._uplink}")
        )
        found = (each["local"] for link in shown for each in link.get("addr_info", []))
        return next(found, "")

    def end(self) -> None:
        for each in (self._client, self._server):
            if each is not None:
                each.terminate()
                each.wait()

    def _run(self, space: str, words: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(["ip", "netns", "exec", space, *words], stdout=log, stderr=log)


@contextlib.contextmanager
def leases(home: Home, box: Box, uplink: str, folder: Path) -> Iterator[Leases]:
    """Have a machine's address there be one by DHCP."""
    made = Leases(home, box, uplink, folder)
    try:
        made.serve(50)
        box.space.run(f"ip -4 addr flush dev {uplink}")
        made.ask()
        yield made
    finally:
        made.end()
