"""Clans to measure with: a large one, written out, and the family's of `examples/`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bench.harness.ground import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OFFICES = 5
"""How many places the large clan's machines are spread over; each is a tag and a network."""
FAMILY = CHECKOUT / "examples" / "family"


def large(machines: int) -> str:
    """Write a clan of so many machines on ten networks, as somebody would who has them.

    Everybody is on the LAN, on the internet, on Tor and on two WireGuards by a tag; each of five
    offices passes ports of its router on to its machines, which is said machine by machine.
    """
    names = [f"m{number:05}" for number in range(machines)]
    lines = ["[meta]", 'name = "large"']
    for number, name in enumerate(names):
        lines += [f"[machines.{name}]", f'tags = ["office{number % OFFICES}", "all-but-one"]']
        lines += [f'deploy.targetHost = "root@{name}.example.com"']
    # The first machine is the controller of both WireGuards, and a controller is no peer.
    lines[lines.index('tags = ["office0", "all-but-one"]')] = 'tags = ["office0"]'
    lines += ["[instances.lan.roles.default.tags.all]", "[instances.tor.roles.server.tags.all]"]
    for vpn in range(2):
        lines += [f"[instances.vpn{vpn}]", 'module.name = "wireguard"']
        lines += ['roles.peer.tags = ["all-but-one"]']
        lines += [f"[instances.vpn{vpn}.roles.controller.machines.{names[0]}.settings]"]
        lines += ['endpoint = "vpn.example.com"', f"port = {51820 + vpn}"]
    for office in range(OFFICES):
        lines += [f"[instances.office{office}]", 'module.name = "internet"']
        for number, name in enumerate(names[office::OFFICES]):
            lines += [f"[instances.office{office}.roles.default.machines.{name}.settings]"]
            lines += [f'host = "office{office}.example.com"', f"port = {1024 + number}"]
    return "\n".join(lines) + "\n"


def family(folder: Path, more: str = "") -> Path:
    """Copy the family's clan to a folder, with `more` at the end of its file; return the folder."""
    folder.mkdir()
    shutil.copy(FAMILY / "clan.toml", folder)
    with (folder / "clan.toml").open("a") as file:
        file.write(more)
    return folder


def better_networks(machine: str, hosts: Sequence[str]) -> str:
    """Write networks that are tried before all others for a machine, one for each host."""
    return "".join(
        f"\n[instances.better{number}]\n"
        'module.name = "internet"\n'
        f"settings.priority = {9000 + number}\n"
        f'roles.default.machines.{machine}.settings.host = "{host}"\n'
        for number, host in enumerate(hosts)
    )
