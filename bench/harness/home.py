"""The family's clan in a lab of its own, and what logs in there."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.harness.clans import FAMILY, better_networks, family
from bench.harness.ground import CLAN, succeeded
from bench.harness.place import record_host_keys, up
from clan.lab.cuts import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.harness.ground import Ground
    from bench.harness.place import Place
    from clan.lab.lab import Lab

MACHINE = "nas"
FULL_NAME = "nas.family"
HOME, AWAY = "home", "cafe"
DARK = {f"dark{number}.example.com": f"203.0.113.{10 + number}" for number in range(3)}
"""Names and addresses at the site whose uplink is cut: what goes there is dropped in silence."""
DARK_SITE = {"lan": "203.0.113.0/27", "ip": "4", "router": {"nat": "none"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The lab: the admin is at home, as is the machine, and each has met the other before."""

    lab: Lab
    place: Place
    folder: Path
    """For what rows keep while they measure."""
    clan: Path
    """The family's clan."""
    dark_clan: Path
    """The same, with three networks before all others that lead nowhere."""
    ssh: tuple[str, ...]
    """Plain ssh to the machine, as `clan ssh` runs it and over the path that this takes."""


@contextmanager
def home(ground: Ground) -> Iterator[Home]:
    """Bring the lab up, make everybody known to each other; take it down at the end."""
    clan = family(ground.folder / "family")
    dark_clan = family(ground.folder / "family-dark", better_networks(MACHINE, list(DARK)))
    document = tomllib.loads((FAMILY / "lab.toml").read_text())
    del document["tor"]  # its relays would work beside what is measured
    document["sites"]["dark"] = DARK_SITE
    document["names"] |= DARK
    with up(ground, document, clan=clan, name="home") as (lab, at):
        lab.cut(Cut(what="dark"))
        known_hosts = ground.folder / "known_hosts"
        known_hosts.write_text(f"{FULL_NAME} {lab.host_key(MACHINE)}\n")
        record_host_keys(lab, [MACHINE])
        address = _address_on_lan(at, clan)
        yield Home(
            lab=lab,
            place=at,
            folder=ground.folder,
            clan=clan,
            dark_clan=dark_clan,
            ssh=plain_ssh(address, known_hosts),
        )


def login(clan: Path, *words: str) -> list[str]:
    """Return the `clan ssh` that runs a command on the machine."""
    return [str(CLAN), "--clan", str(clan), "ssh", "--quiet", MACHINE, *words]


def plain_ssh(address: str, known_hosts: Path) -> tuple[str, ...]:
    """Return the plain ssh that logs in to an address and demands the machine's host key."""
    options = {
        "HostKeyAlias": FULL_NAME,
        "HostKeyAlgorithms": "ssh-ed25519",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "none",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ("ssh", *words, "-l", "root", address)


def _address_on_lan(at: Place, clan: Path) -> str:
    """Return the address by which `clan ssh` reaches the machine from home, as the machine says."""
    argv = login(clan, "echo $SSH_CONNECTION")
    return succeeded(argv, at.run(argv)).output.split()[2]
