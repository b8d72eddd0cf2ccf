"""The lab's Tor network: directory authorities and relays on its internet, with keys of their own.

Its options are torrc(5)'s for testing networks: a consensus every ten seconds instead of every
hour, and relays that are believed to be reachable. No public authority is known to any Tor here.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab import network
from clan.lab.addresses import SERVER_V4
from clan.lab.topology import Daemon, internet_of

if TYPE_CHECKING:
    from pathlib import Path

    from clan.lab.processes import Runner
    from clan.lab.state import State

PROGRAMS = ("tor", "tor-gencert")
AUTHORITIES = 3
RELAYS = 3
"""Besides the authorities, which relay too. A path to an onion service has up to four hops."""
PATIENCE = 180.0
"""Seconds until the network has agreed on itself: usually 10 to 25, more on a busy computer."""
_POLL = 0.1
_OR_PORT = 5000
_DIRECTORY_PORT = 7000

_COMMON = """\
Nickname {name}
DataDirectory {folder}
Address {address}
ORPort {address}:{port} IPv4Only
SocksPort 0
ContactInfo lab
Log notice stdout
TestingTorNetwork 1
AssumeReachable 1
PathsNeededToBuildCircuits 0.67
TestingClientDownloadInitialDelay 0
TestingServerDownloadInitialDelay 0
TestingClientConsensusDownloadInitialDelay 0
TestingServerConsensusDownloadInitialDelay 0
"""

_AUTHORITY = """\
DirPort {address}:{directory_port} IPv4Only
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingDirAuthVoteGuard *
TestingDirAuthVoteExit *
TestingDirAuthVoteHSDir *
TestingMinExitFlagThreshold 0
ConsensusParams max-consensus-age-to-cache-for-diff=0 try-diff-for-consensus-newer-than=0
"""
"""The last line has no Tor keep what was agreed before: each would compute the differences between
all of that and the newest, six times a minute, and compress them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A Tor of the network, by its number among the authorities or among the relays."""

    number: int
    authority: bool
    state: State

    @property
    def name(self) -> str:
        return f"{'authority' if self.authority else 'relay'}{self.number}"

    @property
    def folder(self) -> Path:
        return self.state.tor / self.name

    @property
    def ports(self) -> tuple[int, int]:
        """Where it relays, and where it serves the directory."""
        place = self.number if self.authority else AUTHORITIES + self.number
        return _OR_PORT + place, _DIRECTORY_PORT + place

    @property
    def torrc(self) -> str:
        port, directory_port = self.ports
        text = _COMMON + (_AUTHORITY if self.authority else "")
        return text.format(
            name=self.name,
            folder=self.folder,
            address=SERVER_V4,
            port=port,
            directory_port=directory_port,
        )


def start(state: State, run: Runner) -> dict[str, int]:
    """Make the network's keys and start it; return its processes by name.

    It agrees on itself meanwhile: `wait` waits for that. Raises LabError.
    """
    authorities = [_Node(number=n, authority=True, state=state) for n in range(AUTHORITIES)]
    relays = [_Node(number=n, authority=False, state=state) for n in range(RELAYS)]
    with ThreadPoolExecutor() as pool:
        lines = list(pool.map(lambda node: _identity(node, run), authorities))
    quoted = "".join(f'    "{line}",\n' for line in lines)
    state.tor_settings.write_text(f"authorities = [\n{quoted}]\ntesting = true\n")
    known = "".join(f"DirAuthority {line}\n" for line in lines)
    processes = {}
    for node in [*authorities, *relays]:
        node.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        daemon = Daemon(
            name=f"tor-{node.name}",
            namespace=internet_of(state.name),
            argv=("tor", "--defaults-torrc", "/dev/null", "-f", f"tor-{node.name}.conf"),
            config=node.torrc + known,
        )
        processes[daemon.name] = network.begin(daemon, state)
    return processes


def wait(state: State) -> None:
    """Wait until all relays know the network. Raises LabError when that takes too long."""
    logs = [state.daemons / f"tor-relay{number}.log" for number in range(RELAYS)]
    deadline = time.monotonic() + PATIENCE
    while logs:
        if "Bootstrapped 100%" in logs[-1].read_text(errors="replace"):
            logs.pop()
        elif time.monotonic() > deadline:
            said = logs[-1].read_text(errors="replace").strip().splitlines()[-5:]
            raise LabError(
                f"the lab's Tor network did not come up within {PATIENCE:.0f} s:\n"
                + "\n".join(said)
            )
        else:
            time.sleep(_POLL)


def _identity(node: _Node, run: Runner) -> str:
    """Make an authority's keys; return its DirAuthority line without the first word."""
    keys = node.folder / "keys"
    keys.mkdir(parents=True, mode=0o700)
    node.folder.chmod(0o700)
    port, directory_port = node.ports
    address = f"{SERVER_V4}:{directory_port}"
    certificate = keys / "authority_certificate"
    files = ["-i", str(keys / "authority_identity_key"), "-c", str(certificate)]
    files += ["-s", str(keys / "authority_signing_key")]
    made = ["tor-gencert", "--create-identity-key", "-m", "12", "-a", address, *files]
    run.step([*made, "--passphrase-fd", "0"], text="lab\n")
    identity = re.search(r"^fingerprint (\w+)$", certificate.read_text(), re.MULTILINE)
    if identity is None:
        raise LabError(f"tor-gencert wrote no fingerprint into {certificate}")
    line = f"{node.name} orport={port} no-v2 v3ident={identity[1]} {address} "
    # Tor makes the key that it signs its own descriptor with; it wants to know itself for that.
    draft = node.folder / "first.conf"
    draft.write_text(f"{node.torrc}DirAuthority {line}{'0' * 40}\n")
    run.step(["tor", "--defaults-torrc", "/dev/null", "-f", str(draft), "--list-fingerprint"])
    return line + (node.folder / "fingerprint").read_text().split()[1]
