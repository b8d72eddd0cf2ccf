"""Yggdrasil and Tailscale, at their defaults, in the same kind of lab: what the mesh stands beside.

Their programs are built by `scripts/setup --beside`. Nothing is fetched here: without them, the
rows that show them are left out, and what is compared with Tailscale's DERP is compared with what
that once carried.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, cast

from tests.lab import relays
from tests.lab.agents import CUT, PORT, Talk
from tests.lab.spaces import Space, join

from bench.harness.row import BenchError, LeftOutError, Measure, Row, Sample, Unit
from bench.mesh.pairs import NEAR, UPLINKS, Cable, wait
from bench.mesh.throughput import carried, real_frames
from clan.lab import image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.agents import Box

    from bench.harness.ground import Ground

SERVER = "203.0.113.2"
STATED = 50.0
"""Seconds in which Tailscale carried a gigabyte through its DERP on two processors: 160 Mbit/s."""
PATIENCE = 30.0
"""Seconds that a cut is watched: theirs take long."""
REST = 10.0
"""Seconds between two cuts, for what is back to be found."""
WALL = """\
table inet wall {
    chain forward {
        type filter hook forward priority 0;
        meta l4proto udp drop
    }
}
"""
"""What leaves machines behind routers no way but the server's TLS."""


def program(name: str) -> Path:
    """Return a daemon's program. Raises LeftOutError."""
    found = image.cache() / "beside" / name
    if not found.exists():
        raise LeftOutError(f"{name} is not built (scripts/setup --beside)")
    return found


class Member:
    """A machine with a daemon: one of its own, or in `space` one that is there for more."""

    def __init__(self, name: str, folder: Path, space: Space | None = None) -> None:
        self.name, self.folder = name, folder / name
        self.folder.mkdir(parents=True)
        self._is_own = space is None
        self.space = space or Space()
        self.address: IPv6Address | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, **more: str) -> None:
        """Run a daemon."""
        with (self.folder / "log").open("ab") as log:
            started = subprocess.Popen(
                ["ip", "netns", "exec", self.space.name, *words],
                stdout=log,
                stderr=log,
                env=os.environ | more,
            )
        self._processes.append(started)

    def tell(self, *words: str, **more: str) -> str:
        """Run a command and return what it printed. Raises BenchError."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.space.name, *words],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"{words[0]}: {done.stderr.strip()[-200:]}")
        return done.stdout

    def udp(self, port: int = PORT) -> socket.socket:
        """Return a socket at its address."""
        with self.space.inside():
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((str(self.address), port))
        made.setblocking(False)
        return made

    def sent(self, uplink: str) -> int:
        """Return the bytes that left by an uplink so far."""
        return int(self.space.run(f"cat /sys/class/net/{uplink}/statistics/tx_bytes"))

    def cut(self, uplink: str) -> None:
        """Let nothing in by an uplink."""
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input=CUT.format(uplink=uplink).encode(), check=True)

    def mend(self) -> None:
        """Let it in again."""
        self.space.run("nft delete table netdev cut")

    def remove(self) -> None:
        """Take it away."""
        for each in self._processes:
            each.kill()
            each.wait()
        if self._is_own:
            self.space.remove()


def talking(one: Member, other: Member) -> Talk:
    """Have two talk: of a machine, `Talk` needs its address and a socket there."""
    return Talk(cast("Box", one), cast("Box", other))


class Two:
    """Two machines that talk; `gap` is for those with two cables between them."""

    def __init__(self, one: Member, other: Member) -> None:
        self.one, self.other = one, other

    def gap(self) -> float:
        """Cut the cable in use under 50 datagrams a second; return the longest silence."""
        with contextlib.closing(talking(self.one, self.other)) as talk:
            end = time.monotonic() + 60
            while len(talk.answered) < 100:
                talk.go(0.5)
                if time.monotonic() > end:
                    raise BenchError("two machines do not talk")
            before = [self.one.sent(each) for each in UPLINKS]
            talk.go(1)
            grown = [self.one.sent(e) - b for e, b in zip(UPLINKS, before, strict=True)]
            used = UPLINKS[grown.index(max(grown))]
            talk.begin()
            for each in (self.one, self.other):
                each.cut(used)
            end = time.monotonic() + PATIENCE
            cut = time.monotonic()
            while time.monotonic() < end:
                talk.go(0.5)
                late = [at for at in talk.answered.values() if at > cut + 0.1]
                if late and time.monotonic() - min(late) > 1:
                    break
            gap = talk.gap()
        for each in (self.one, self.other):
            each.mend()
        time.sleep(REST)
        return gap


@contextlib.contextmanager
def two(folder: Path) -> Iterator[Two]:
    """Lay two cables of a short round trip between two machines."""
    with contextlib.ExitStack() as stack:
        members = []
        for name in ("desk", "laptop"):
            members.append(Member(name, folder))
            stack.callback(members[-1].remove)
        one, other = members
        for number, uplink in enumerate(UPLINKS, 1):
            cable = Cable(
                one=one.space, other=other.space, uplink=uplink, number=number, seconds=NEAR / 2
            )
            stack.callback(cable.remove)
        yield Two(one, other)


@contextlib.contextmanager
def yggdrasil(ground: Ground) -> Iterator[Two]:
    """Have them in Yggdrasil's network: each finds the other on both cables."""
    daemon = str(program("yggdrasil"))
    ground.report("Yggdrasil beside it")
    with two(ground.folder / "yggdrasil") as made:
        for each in (made.one, made.other):
            setting = json.loads(each.tell(daemon, "-genconf", "-json"))
            setting |= {"IfName": "ygg0", "AdminListen": f"unix://{each.folder}/socket"}
            file = each.folder / "setting"
            file.write_text(json.dumps(setting))
            shown = each.tell(daemon, "-useconffile", str(file), "-address")
            each.address = IPv6Address(shown.strip())
            each.start(daemon, "-useconffile", str(file))
        control = str(program("yggdrasilctl"))

        def peers() -> bool:
            words = [control, f"-endpoint=unix://{made.one.folder}/socket", "-json", "getpeers"]
            with contextlib.suppress(BenchError):
                told = json.loads(made.one.tell(*words))
                return len([each for each in told["peers"] if each["up"]]) >= len(UPLINKS)
            return False

        wait(peers, "Yggdrasil on both cables", 60)
        yield made


class Headscale:
    """A server that Tailscale's machines know: Headscale, with a DERP in it."""

    def __init__(
        self, folder: Path, stack: contextlib.ExitStack, space: Space | None = None
    ) -> None:
        self._program = str(program("headscale"))
        for each in ("tailscale", "tailscaled"):
            program(each)
        self.member = Member("server", folder, space)
        stack.callback(self.member.remove)
        self.certificate = self.member.folder / "certificate"
        self._setting = self.member.folder / "setting.yaml"

    def plug(self, *spaces: Space) -> None:
        """Lay a cable to it from each machine, and lead all there that leads nowhere else."""
        here = self.member.space
        here.run(f"ip addr add {SERVER}/32 dev lo")
        for number, each in enumerate(spaces, 1):
            join(each, "eth9", here, f"to{number}")
            here.run(f"ip addr add 198.51.{number}.1/24 dev to{number}")
            each.run(f"ip addr add 198.51.{number}.2/24 dev eth9")
            each.run(f"ip route add default via 198.51.{number}.1 dev eth9")

    def start(self) -> None:
        """Start it. Raises BenchError."""
        own = self.member.folder
        words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = ["-subj", f"/CN={SERVER}", "-addext", f"subjectAltName=IP:{SERVER}"]
        files = ["-keyout", str(own / "tls"), "-out", str(self.certificate)]
        self.member.tell(*words.split(), *names, *files)
        self._setting.write_text(json.dumps(self._settings()))
        self.member.start(self._program, "-c", str(self._setting), "serve")
        wait((own / "socket").is_socket, "Headscale", 60)
        end = time.monotonic() + 30
        while True:
            try:
                self._ask("users", "create", "lab")
                break
            except BenchError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)
        words = "preauthkeys create --user 1 --reusable --expiration 24h -o json"
        self._key = str(json.loads(self._ask(*words.split()))["key"])

    def _ask(self, *words: str) -> str:
        return self.member.tell(self._program, "-c", str(self._setting), *words)

    def _settings(self) -> dict[str, object]:
        own = self.member.folder
        return {
            "server_url": f"https://{SERVER}",
            "listen_addr": f"{SERVER}:443",
            "metrics_listen_addr": "127.0.0.1:9090",
            "grpc_listen_addr": "127.0.0.1:50443",
            "noise": {"private_key_path": f"{own}/noise"},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48"},
            "derp": {
                "server": {
                    "enabled": True,
                    "region_id": 999,
                    "region_code": "lab",
                    "region_name": "lab",
                    "stun_listen_addr": "0.0.0.0:3478",
                    "private_key_path": f"{own}/derp",
                    "automatically_add_embedded_derp_region": True,
                    "ipv4": SERVER,
                },
                "urls": [],
                "paths": [],
                "auto_update_enabled": False,
            },
            "disable_check_updates": True,
            "database": {"type": "sqlite", "sqlite": {"path": f"{own}/database"}},
            "tls_cert_path": str(self.certificate),
            "tls_key_path": f"{own}/tls",
            "log": {"level": "warn"},
            "dns": {
                "magic_dns": False,
                "base_domain": "lab.example",
                "override_local_dns": False,
                "nameservers": {"global": []},
            },
            "unix_socket": f"{own}/socket",
            "unix_socket_permission": "0700",
        }

    def join(self, *members: Member) -> None:
        """Bring machines into its network. Raises BenchError."""
        trust = {"SSL_CERT_FILE": str(self.certificate), "TS_NO_LOGS_NO_SUPPORT": "true"}
        for each in members:
            at = f"--socket={each.folder}/socket"
            places = [f"--statedir={each.folder}", "--state=mem:", at]
            each.start(str(program("tailscaled")), *places, **trust)
            wait((each.folder / "socket").is_socket, "tailscaled", 60)
            tailscale = str(program("tailscale"))
            words = [f"--login-server=https://{SERVER}", f"--auth-key={self._key}"]
            words += ["--accept-dns=false", f"--hostname={each.name}", "--timeout=60s"]
            each.tell(tailscale, at, "up", *words, **trust)
            each.address = IPv6Address(each.tell(tailscale, at, "ip", "-6").strip())


@contextlib.contextmanager
def tailscale(ground: Ground) -> Iterator[Two]:
    """Have them in Tailscale's network; a cable each leads to the server."""
    with contextlib.ExitStack() as stack:
        server = Headscale(ground.folder / "tailscale", stack)
        ground.report("Tailscale beside it")
        made = stack.enter_context(two(ground.folder / "tailscale"))
        server.plug(made.one.space, made.other.space)
        server.start()
        server.join(made.one, made.other)
        yield made


@contextlib.contextmanager
def derp_behind_routers(ground: Ground) -> Iterator[Two]:
    """Have two in Tailscale's network, where a relay and two behind routers stand."""
    with contextlib.ExitStack() as stack:
        ground.report("Tailscale through its DERP, behind routers")
        laid = relays.Homes()
        stack.callback(laid.remove)
        relays.rules(laid.spaces["net"], WALL)
        folder = ground.folder / "derp-routers"
        server = Headscale(folder, stack, laid.spaces["relay"])
        one, other = (Member(each, folder, laid.spaces[each]) for each in ("one", "other"))
        made = Two(one, other)
        for each in (one, other):
            stack.callback(each.remove)
        real_frames(*laid.spaces.values())
        _join_by_derp(server, made)
        yield made


@contextlib.contextmanager
def derp_at_hand(ground: Ground) -> Iterator[Two]:
    """Have two with a cable each to Tailscale's server, which routes nothing."""
    with contextlib.ExitStack() as stack:
        ground.report("Tailscale through its DERP")
        folder = ground.folder / "derp"
        server = Headscale(folder, stack)
        one, other = Member("one", folder), Member("other", folder)
        made = Two(one, other)
        for each in (one, other):
            stack.callback(each.remove)
        server.plug(one.space, other.space)
        real_frames(server.member.space, one.space, other.space)
        _join_by_derp(server, made)
        yield made


def _join_by_derp(server: Headscale, made: Two) -> None:
    """Have two talk who have no other way. Raises BenchError."""
    server.start()
    server.join(made.one, made.other)
    with contextlib.closing(talking(made.one, made.other)) as talk:
        end = time.monotonic() + 60
        while not talk.answered:
            talk.go(0.5)
            if time.monotonic() > end:
                raise BenchError("nothing goes through DERP")


def through(
    derp: Callable[[Ground], contextlib.AbstractContextManager[Two]], ground: Ground
) -> Callable[[], tuple[str, float]]:
    """Return what says how many seconds a gigabyte takes through DERP, measured if it is there."""
    try:
        at = ground.once(derp)
    except LeftOutError as why:
        ground.report(f"{why}: compared with what DERP once carried, 160 Mbit/s")
        return lambda: ("DERP as stated", STATED)
    return lambda: ("DERP", carried(at.one.space, at.other.space, str(at.other.address)))


def gap(
    lay: Callable[[Ground], contextlib.AbstractContextManager[Two]],
) -> Callable[[Ground], Measure]:
    """Time the gap in 50 datagrams a second at a silent cut of the cable in use."""

    def prepare(ground: Ground) -> Measure:
        at = ground.once(lay)
        return lambda: Sample(value=at.gap())

    return prepare


ROWS = (
    Row(
        name="Yggdrasil",
        what="the gap at a silent cut in Yggdrasil, at its defaults, on the same two cables",
        unit=Unit.SECONDS,
        bound=None,
        prepare=gap(yggdrasil),
        rounds=3,
        needs_root=True,
    ),
    Row(
        name="Tailscale",
        what="the same in Tailscale",
        unit=Unit.SECONDS,
        bound=None,
        prepare=gap(tailscale),
        rounds=3,
        needs_root=True,
    ),
)
