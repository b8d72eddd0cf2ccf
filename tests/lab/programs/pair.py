"""Runs two whole agents where the kernel has WireGuard, and prints what it saw as JSON.

They are in network namespaces with two cables between them, each with a folder that is its disk.
The clock is both's: while it is wrong, one of them runs alone. Emulated, Python needs ten seconds
for all that an agent imports: so agents are forks of this process, which has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spaces import Space, join  # type: ignore[import-not-found]

from clan.machine.layout import boot_id
from clan.mesh import clock, identity
from clan.mesh.__main__ import main as mesh
from clan.mesh.agent import gossip, lan, sessions, setting, status

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Path("/opt/machines")
UPLINKS = ("eth0", "wlan0")
YEAR_1970, RIGHT, LATER, YEAR_2099 = 100_000, 1_800_010_000, 1_800_020_000, 4_080_000_000
MANY = 10
"""Pings in a second."""
CUT = """\
table netdev cut {{
    chain {uplink} {{
        type filter hook ingress device "{uplink}" priority -100;
        meta protocol {{ ip, ip6 }} drop
    }}
}}
"""
# No call is heard. 156 bytes is how long the first message of a handshake is as UDP.
DEAF = f"""\
table netdev deaf {{{{
    chain {{uplink}} {{{{
        type filter hook ingress device "{{uplink}}" priority -100;
        udp dport {lan.PORT} drop
        udp length 156 counter
    }}}}
}}}}
"""
KEEPALIVE = 12
"""Seconds after which WireGuard has told of what it got last, and so neither end waits for that."""


class Machine:
    """One of the two."""

    def __init__(self, name: str) -> None:
        self.root, self.space = PLACE / name, Space()
        self._given = setting.read("home", self.root)
        self._given.identity.chmod(0o600)
        own = identity.read(self._given.identity).public
        self.address = identity.address(self._given.prefix, own)
        self._agent = 0

    def start(self, *, asleep: bool = False) -> None:
        """Start the agent; or one as it is when nobody was talked to for long.

        That one calls nobody to compare maps, and sessions are over in seconds, not in minutes.
        """
        self._agent = self._begin("run", asleep=asleep)

    def kill(self) -> None:
        """Kill the agent; all else goes on."""
        os.kill(self._agent, signal.SIGKILL)
        os.waitpid(self._agent, 0)

    def boot_clock(self) -> None:
        """Do what the agent's unit does before it, in another boot than the last agent's."""
        file = self._given.state / clock.FILE
        file.write_text(file.read_text().replace(boot_id(), "the one before"))
        os.waitpid(self._begin("clock"), 0)

    def _begin(self, command: str, *, asleep: bool = False) -> int:
        child = os.fork()
        if child:
            return child
        with (self.root / "log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            with self.space.inside():
                if asleep:
                    gossip.WOKEN_AT_ONCE = 0
                    sessions.OVER = sessions.LOOK_EVERY = 5.0
                mesh(["--root", str(self.root), command, "home"])
        except BaseException:  # noqa: BLE001 (it must not go on as what it is a fork of)
            traceback.print_exc()
        os._exit(1)

    def sleep(self) -> None:
        """Have WireGuard end its sessions, as it does before a machine sleeps."""
        for each in self._interfaces():
            for way in ("down", "up"):
                self.space.run(f"ip link set {each['ifname']} {way}")

    def nft(self, *rules: str) -> None:
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input="".join(rules), text=True, check=True)

    def initiations(self) -> int:
        """Return how many handshakes were begun towards it since it is deaf."""
        listed = self.space.run("nft list table netdev deaf")
        return sum(map(int, re.findall(r"counter packets (\d+)", listed)))

    def handshakes(self) -> list[int]:
        """Return when each session began, in seconds of 1970."""
        shown = self.space.run("wg show all latest-handshakes").splitlines()
        return sorted(int(line.split()[-1]) for line in shown)

    def kinds(self) -> set[str]:
        """Return the kinds of the mesh's interfaces."""
        return {each["linkinfo"]["info_kind"] for each in self._interfaces()}

    def _interfaces(self) -> list[dict[str, Any]]:
        shown = json.loads(self.space.run("ip -j -d link show"))
        return [each for each in shown if each["ifname"].startswith("clan-")]

    def links(self) -> list[dict[str, Any]]:
        """Return those to the other one, as its agent tells; nothing while none answers."""
        with contextlib.suppress(OSError):
            told = status.ask(self._given.socket, {"ask": "status"})
            for pair in told.get("peers", {}).values():
                return [each | {"used": each["id"] == pair["path"]} for each in pair["links"]]
        return []

    def alive(self) -> int:
        return sum(each["alive"] for each in self.links())

    def path(self) -> str:
        """Return the uplink of the link in use, if that lives."""
        used = [each["uplink"] for each in self.links() if each["used"] and each["alive"]]
        return next(iter(used), "")


class Pings:
    """From one machine to the other, by their addresses for life."""

    def __init__(self, one: Machine, other: Machine) -> None:
        self._file = one.root / "pings"
        words = ["ping", "-6", "-n", "-i", str(1 / MANY), str(other.address)]
        with one.space.inside(), self._file.open("wb") as out:
            self._process = subprocess.Popen(words, stdout=out, stderr=out)

    def answers(self) -> set[int]:
        return set(map(int, re.findall(r"icmp_seq=(\d+) ttl", self._file.read_text())))

    def go_on(self) -> None:
        """Wait until some are answered from now on."""
        enough = len(self.answers()) + MANY
        until(lambda: len(self.answers()) >= enough)

    def end(self) -> set[int]:
        """Return those that were not answered."""
        time.sleep(1)
        answered = self.answers()
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        return set(range(1, max(answered))) - answered


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.5)


def set_clock(seconds: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, seconds)


def meet(one: Machine, other: Machine) -> Pings:
    """Start both agents, and wait until they talk by two links."""
    for number, uplink in enumerate(UPLINKS, 1):
        join(one.space, uplink, other.space, uplink)
        for host, each in enumerate((one, other), 1):
            each.space.run(f"ip addr add 192.0.{number}.{host}/24 dev {uplink}")
    set_clock(RIGHT)
    for each in (one, other):
        each.start()
    until(lambda: any(each["used"] for each in one.links()))
    pings = Pings(one, other)
    until(lambda: (one.alive(), other.alive()) == (2, 2))
    return pings


def cut(one: Machine, other: Machine, pings: Pings) -> list[object]:
    """Let nothing pass by the cable in use; return the uplinks, and the longest silence."""
    pings.go_on()
    before = one.path()
    for each in (one, other):
        each.nft(CUT.format(uplink=before))
    until(lambda: one.path() not in {"", before})
    pings.go_on()
    after = one.path()
    for each in (one, other):
        each.nft("delete table netdev cut")
    until(lambda: (one.alive(), other.alive()) == (2, 2))
    lost = pings.end()
    return [before, after, len(lost) / MANY]


def killed(one: Machine, other: Machine) -> list[object]:
    """Kill an agent and start it again; say what that cost, and whether sessions went on."""
    pings = Pings(one, other)
    pings.go_on()
    before = one.handshakes()
    one.kill()
    pings.go_on()
    one.start()
    until(lambda: one.path() != "")
    pings.go_on()
    return [sorted(pings.end()), bool({*before} & {*one.handshakes()})]


def boot_in_1970(one: Machine, other: Machine) -> list[object]:
    """Boot with a clock that stands at 1970; return what it says then, and shake hands."""
    for each in (one, other):
        each.kill()
    set_clock(YEAR_1970)
    one.boot_clock()
    begun = time.time()
    one.start()
    pings = Pings(one, other)
    until(lambda: max(other.handshakes()) >= int(begun))
    pings.go_on()
    pings.end()
    return [begun]


def be_in_2099(one: Machine, other: Machine) -> list[object]:
    """Shake hands in 2099, then be back; say whether that is refused, and is heard after all."""
    one.kill()
    set_clock(YEAR_2099)
    one.start()
    pings = Pings(one, other)
    until(lambda: min(other.handshakes()) >= YEAR_2099)
    pings.end()
    one.kill()
    time.sleep(KEEPALIVE)
    one.sleep()
    set_clock(LATER)
    other.nft(*(DEAF.format(uplink=each) for each in UPLINKS))
    one.start()
    until(lambda: any(each["used"] for each in one.links()))
    pings = Pings(one, other)
    until(lambda: other.initiations() > len(UPLINKS))
    time.sleep(2)
    refused = not pings.answers() and min(other.handshakes()) >= YEAR_2099
    other.start(asleep=True)
    pings.go_on()
    pings.end()
    return [refused]


def main() -> None:
    one, other = machines = [Machine(each.name) for each in sorted(PLACE.iterdir())]
    saw: dict[str, object] = {}
    try:
        pings = meet(one, other)
        saw["kinds"] = [sorted(each.kinds()) for each in machines]
        saw["cut"] = cut(one, other, pings)
        saw["killed"] = killed(one, other)
        saw["in 1970"] = boot_in_1970(one, other)
        saw["in 2099"] = be_in_2099(one, other)
    finally:
        for each in machines:
            sys.stdout.write(f"{each.root.name} said: {(each.root / 'log').read_text()}\n")
            sys.stdout.write(f"{each.root.name} sees: {each.links()}\n")
        sys.stdout.write(f"SAW {json.dumps(saw)}\n")


main()
