"""A lab's machine: its files, its boot under systemd-nspawn, its first process.

A machine's root is an overlay over the image, mounted in a mount namespace of its own that goes
when the machine's last process goes: there is nothing to unmount, whatever happens to the lab.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab.config import Mdns, host_name
from clan.lab.network import inside
from clan.lab.place import LAUNCHER
from clan.lab.processes import Group, Runner, start

if TYPE_CHECKING:
    from clan.lab.config import Machine
    from clan.lab.image import Image
    from clan.lab.state import State

PYTHON_OF = {12: (3, 11), 13: (3, 13)}
"""Release of Debian -> the Python that it has."""

# $1 folder, $2 image, then nspawn's command without its bridge. A machine that reboots makes
# nspawn exit with 133; which LAN it is plugged into is read anew, as it may have been moved.
_BOOT = """\
set -e
cd "$1"
mount -t tmpfs -o mode=755 tmpfs /run
# An overlay that promises no durability refuses a folder that such a one has worked in before.
rm -rf work
mkdir work
mount -t overlay overlay -o lowerdir="$2",upperdir="$1/upper",workdir="$1/work",volatile "$1/root"
shift 2
status=133
while [ "$status" = 133 ]; do
  status=0
  "$@" --network-bridge="$(cat bridge)" || status=$?
done
exit "$status"
"""

# Nobody else has the addresses that the lab's plan gives; looking for one costs every move seconds.
_NETWORK = """\
[Match]
Name=host0

[Network]
DHCP=ipv4
IPv6AcceptRA=yes
IPv6DuplicateAddressDetection=0
LLMNR=no
MulticastDNS={mdns}

[DHCPv4]
UseHostname=no

[IPv6AcceptRA]
Token=static:::{token:x}
"""

# Avahi takes its own probe for another machine's when its address changes while it probes, and
# calls itself NAME-2 from then on. So it starts when the address it will keep is there.
_AVAHI = """\
[Service]
ExecStartPre=-/bin/sh -c 'for i in $(seq 100); do \
ip -6 -oneline address show dev host0 scope global | grep -q . && exit; sleep 0.1; done'
"""

_APT = """\
Types: deb
URIs: http://deb.lab/{release}
Suites: lab
Components: main
Signed-By: /usr/share/keyrings/clan-lab.asc
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One machine of a lab on this computer. `number` tells its cable and its control group."""

    name: str
    number: int
    machine: Machine
    state: State

    @property
    def folder(self) -> Path:
        """The folder of the machine's own files."""
        return self.state.folder / "machines" / self.name

    @property
    def cable(self) -> str:
        """The switches' end of the machine's cable, as nspawn names it."""
        return f"vb-m{self.number}"

    @property
    def group(self) -> Group:
        """The control group that the machine runs in."""
        return self.state.group.child(f"m{self.number}")

    @property
    def log(self) -> Path:
        """What the machine's console showed."""
        return self.folder / "console.log"

    def plug(self, bridge: str) -> None:
        """Write down the LAN that the machine is plugged into when it starts next."""
        (self.folder / "bridge").write_text(bridge)

    def leader(self) -> int | None:
        """Return the process that is the machine's process 1, None while it does not run."""
        for process in self.group.processes():
            try:
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue  # it ended meanwhile
            line = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            inner = line.split()[2:]
            if inner == ["1"]:
                return process
        return None


def prepare(
    unit: Unit, image: Image, authorised_key: str, token: int, run: Runner, *, ipv6: bool
) -> None:
    """Write what makes the image's copy this machine, before it boots.

    `authorised_key` may log in as root; `token` is the last half of the machine's IPv6 addresses;
    `ipv6` says whether its site gives it one.
    """
    for name in ("upper", "work", "root"):
        (unit.folder / name).mkdir(parents=True)
        (unit.folder / name).chmod(0o755)
    host = host_name(unit.name)
    mdns = unit.machine.mdns
    files = {
        "etc/hostname": f"{host}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {host}\n",
        "etc/systemd/network/10-lab.network": _NETWORK.format(
            mdns="yes" if mdns is Mdns.RESOLVED else "no", token=token
        ),
        "etc/apt/sources.list.d/lab.sources": _APT.format(release=unit.machine.debian),
        "usr/share/keyrings/clan-lab.asc": (image.repository / "key.asc").read_text(),
        "root/.ssh/authorized_keys": f"{authorised_key}\n",
    }
    if mdns is Mdns.RESOLVED:
        files["etc/systemd/resolved.conf.d/lab.conf"] = "[Resolve]\nMulticastDNS=yes\n"
    if mdns is Mdns.AVAHI and ipv6:
        files["etc/systemd/system/avahi-daemon.service.d/lab.conf"] = _AVAHI
    if unit.machine.clan:
        files["usr/local/bin/clan"] = LAUNCHER
    upper = unit.folder / "upper"
    for path, text in files.items():
        _write(upper, path, text)
    if unit.machine.clan:
        (upper / "usr/local/bin/clan").chmod(0o755)
    if mdns is not Mdns.AVAHI:
        units = upper / "etc/systemd/system"
        units.mkdir(exist_ok=True)
        for name in ("avahi-daemon.service", "avahi-daemon.socket"):
            (units / name).symlink_to("/dev/null")
        # The image's own would send NAME.local to avahi and nowhere else.
        hosts = (image.root / "etc/nsswitch.conf").read_text()
        _write(upper, "etc/nsswitch.conf", hosts.replace("mdns4_minimal [NOTFOUND=return] ", ""))
    key = upper / "etc/ssh/ssh_host_ed25519_key"
    key.parent.mkdir(exist_ok=True)
    run.step(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{host}", "-f", str(key)])


def boot(unit: Unit, image: Image, switches: str, clan_dir: Path) -> None:
    """Start the machine; it boots while this returns."""
    unit.group.make()
    argv = [
        *("unshare", "--mount", "--propagation", "private"),
        *("sh", "-c", _BOOT, "boot", str(unit.folder), str(image.root)),
        *("systemd-nspawn", "--quiet", "--boot", "--directory=root", f"--machine=m{unit.number}"),
        f"--hostname={host_name(unit.name)}",
        *("--register=no", "--keep-unit", "--console=read-only", "--suppress-sync=yes"),
        *("--resolv-conf=off", "--timezone=off", "--link-journal=no", "--bind=/dev/net/tun"),
        *(binds(unit.state, clan_dir, unit.machine.debian) if unit.machine.clan else ()),
    ]
    start(inside(switches, argv), unit.group, folder=unit.folder, log=unit.log)


def binds(state: State, clan_dir: Path, release: int) -> list[str]:
    """Return nspawn's options that put this computer's `clan`, and the clan, on a machine.

    Everything is at the path it has here, so what is written into the clan's folder holds there
    too. Raises LabError when this computer's Python cannot run on the image.
    """
    prefix, base = Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()
    source = Path(__file__).resolve().parents[2]
    wanted = PYTHON_OF[release]
    if base == Path("/usr") and sys.version_info[:2] != wanted:
        version = ".".join(map(str, wanted))
        raise LabError(
            f"machines with `clan = true` have Python {version}, this is {sys.version.split()[0]}",
            hint=f"install clan with a Python of its own, or with {version}",
        )
    programs = {folder for folder in (prefix, base, source) if folder != Path("/usr")}
    shared = [clan_dir, state.agent.parent, *state.private.values()]
    read_only = [f"--bind-ro={_escaped(folder)}" for folder in sorted(programs)]
    return read_only + [f"--bind={_escaped(folder)}" for folder in shared]


def _escaped(folder: Path) -> str:
    """Write a path for nspawn, which takes what follows a colon for something else."""
    return str(folder).replace(":", "\\:")


def _write(upper: Path, path: str, text: str) -> None:
    """Write a file of the machine; folders above it get the modes that the image's have."""
    target = upper / path
    for folder in reversed(target.relative_to(upper).parents[:-1]):
        private = folder.parts[0] == "root"
        (upper / folder).mkdir(mode=0o700 if private else 0o755, exist_ok=True)
    target.write_text(text)
