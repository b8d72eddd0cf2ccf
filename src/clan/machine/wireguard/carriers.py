"""Which controller carries whose subnet: worked out from what is dead, kept, and told to `wg`.

A controller's subnet is the AllowedIPs of one peer at a time, which is both where packets go and
from whom they are taken. That of a dead controller goes to the first that is not dead, in the order
of the plan; all peers that know of the same dead ones come to the same. Its own address stays with
the dead one, so that it can be asked whether it is back.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.machine.system import run
from clan.machine.wireguard.peers import set_all

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from clan.machine.wireguard.link import Carrier, Link

STATE = Path("/run/clan/wireguard")
"""What a boot forgets: which endpoints were given to `wg`, which controllers are dead."""

TELLING = 51819
"""UDP port, inside the tunnel alone, at which machines tell each other what is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an agent knows and leaves behind for its next run, for `apply` and for the doctor.

    `since` is when each dead controller was found dead, in seconds since 1970. On a peer, `lost`
    are those that it found dead itself and `told` what each live controller says. On a controller,
    `told` is what each peer says that it lost.
    """

    lost: tuple[str, ...] = ()
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    since: Mapping[str, float] = field(default_factory=dict)

    @property
    def dead(self) -> frozenset[str]:
        """The controllers that others stand in for."""
        return frozenset(self.since)

    @classmethod
    def read(cls, name: str, state: Path = STATE) -> Known:
        """Return what is known of an interface: nothing where nothing was kept."""
        try:
            shape: dict[str, Any] = json.loads((state / f"{name}.carriers.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return cls()
        told = {who: tuple(what) for who, what in shape["told"].items()}
        return cls(lost=tuple(shape["lost"]), told=told, since=shape["since"])

    def write(self, name: str, state: Path = STATE) -> None:
        """Keep it until the next boot."""
        path = state / f"{name}.carriers.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @staticmethod
    def forget(name: str, state: Path = STATE) -> None:
        """Remove what was kept."""
        (state / f"{name}.carriers.json").unlink(missing_ok=True)


@contextlib.contextmanager
def alone(name: str, state: Path = STATE) -> Iterator[None]:
    """Be the only one that says which addresses of an interface are whose."""
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def stand_ins(carriers: Sequence[Carrier], dead: Collection[str]) -> dict[str, str]:
    """Return dead controller -> who carries its subnet; none where all are dead."""
    live = next((each.name for each in carriers if each.name not in dead), None)
    return {each.name: live for each in carriers if live is not None and each.name in dead}


def allowed(link: Link, dead: Collection[str]) -> dict[str, frozenset[str]]:
    """Return public key -> the addresses that go to and come from that far end."""
    found = {key: set(peer.allowed) for key, peer in link.peers.items()}
    keys = {peer.name: key for key, peer in link.peers.items()}
    there = [each for each in link.carriers if each.name in keys]
    # Who is a controller itself reaches all peers directly: nothing goes by another.
    if len(there) == len(link.carriers):
        by = stand_ins(there, dead)
        for each in there:
            if each.name in by:
                found[keys[each.name]] -= {each.subnet}
                found[keys[each.name]] |= {f"{each.address}/128"}
                found[keys[by[each.name]]] |= {each.subnet}
    return {key: frozenset(each) for key, each in found.items()}


def steer(link: Link, dead: Collection[str]) -> None:
    """Have addresses go to whom they are to, touching only far ends that differ.

    One call of `wg` moves a subnet: it is never nobody's. Raises StepError.
    """
    there = {}
    for line in run(["wg", "show", link.name, "allowed-ips"]).splitlines():
        key, _, listed = line.partition("\t")
        there[key] = frozenset(listed.split()) - {"(none)"}
    wanted = allowed(link, dead)
    changes = [
        ["peer", key, "allowed-ips", ",".join(sorted(each))]
        for key, each in wanted.items()
        if key in there and there[key] != each
    ]
    set_all(link.name, changes)
