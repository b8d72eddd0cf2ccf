"""What a lab looks like now: who is where, with which addresses, and what is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.lab import proc
from clan.lab.config import ADMIN

if TYPE_CHECKING:
    from clan.lab.cuts import Cut
    from clan.lab.lab import Lab

SSH = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One machine, or the admin's computer, as it is now.

    `state` is `running`, `starting` until it takes SSH, or `stopped`.
    """

    name: str
    site: str
    addresses: tuple[str, ...]
    state: str
    pulled: bool
    """Whether its cable is pulled."""
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A lab as it is now."""

    name: str
    clan_dir: str
    machines: tuple[Seen, ...]
    cuts: tuple[Cut, ...]
    """Every cut, those of sites too."""


def observe(lab: Lab) -> Status:
    """Look at a lab that is up."""
    cuts, pulled = tuple(lab.cuts()), lab.pulled()

    def seen(name: str, addresses: tuple[str, ...], state: str) -> Seen:
        return Seen(
            name=name,
            site=lab.site_of(name),
            addresses=addresses,
            state=state,
            pulled=name in pulled,
            cuts=tuple(cut for cut in cuts if cut.what == name),
        )

    machines = []
    for unit in lab.units():
        leader = unit.leader()
        if leader is None:
            machines.append(seen(unit.name, (), "stopped"))
            continue
        v4, v6 = proc.addresses(leader)
        state = "running" if proc.listens(leader, SSH) else "starting"
        machines.append(seen(unit.name, tuple(map(str, [*v4, *v6])), state))
    machines.append(seen(ADMIN, admin_addresses(lab), "running"))
    return Status(
        name=lab.state.name, clan_dir=str(lab.clan_dir), machines=tuple(machines), cuts=cuts
    )


def admin_addresses(lab: Lab) -> tuple[str, ...]:
    """Return the addresses of the admin's computer at the site where it is."""
    own = lab.addresses()[lab.site_of(ADMIN)]
    return tuple(str(address.ip) for address in (own.admin4, own.admin6) if address)
