"""Keeping what a machine made anew of its own: its age identity and its host key.

The identity counts from the moment it is kept: the machine has both, and what the clan has for it
is encrypted to the new one alone. Of host keys both count until the machine was seen to show the
new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.vars.age import recipient
from clan.vars.generate import Outcome
from clan.vars.names import GeneratorId
from clan.vars.readers import reencrypt_locked
from clan.vars.rotation import HOST_KEY, IDENTITY, Rotation, leave_word, rotations, settle
from clan.vars.store import HOST_KEY as HOST_KEY_VAR
from clan.vars.store import MACHINE_IDENTITY

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from clan.vars.graph import Graph
    from clan.vars.store import Store


OWN_KEYS = {HOST_KEY_VAR[0]: HOST_KEY, MACHINE_IDENTITY[0]: IDENTITY}
"""What a machine's own keys are called beside generators -> what they are when they are due."""


def with_own(
    store: Store, machines: Collection[str], own: Collection[str]
) -> Iterator[tuple[GeneratorId, str]]:
    """Yield which own keys (of OWN_KEYS) machines have, and what they are when they are due."""
    for machine in sorted(machines):
        if store.machine_identity(machine) is not None:
            yield from ((GeneratorId(machine=machine, name=n), OWN_KEYS[n]) for n in sorted(own))


def postpone(
    store: Store, machines: Collection[str], own: Collection[str], now: str
) -> list[Outcome]:
    """Leave word that machines make own keys anew at their next update, `now` in UTC.

    Raises ClanError when none of them is installed.
    """
    found = list(with_own(store, machines, own))
    if not found:
        if own:
            raise ClanError(
                f"{', '.join(sorted(machines))}: not installed yet, so there is nothing to replace",
                hint="`clan machines install` makes a machine a member",
            )
        return []
    with store.locked():
        for id_, what in found:
            word = Rotation(what=what, why="asked for", since=now)
            leave_word(store, id_.machine or "", [word])
        store.stage([store.folder])
    why = "asked for; made at its next update"
    return [Outcome(id=id_, made=False, why=why) for id_, _ in found]


def known_of_due(store: Store, machine: str) -> tuple[str | None, str | None]:
    """Return the identity and the host key that a machine is to replace; None what is not due."""
    due = {each.what for each in rotations(store, machine)}
    identity = store.machine_identity(machine) if IDENTITY in due else None
    shown = store.host_keys(machine)[:1] if HOST_KEY in due else []
    return identity, shown[0] if shown else None


def keep_identity(store: Store, graph: Graph, machine: str, key: str) -> None:
    """Keep a machine's new identity, encrypt its secrets to that one, and settle that it was due.

    Killed before its end, it is still due, and what was encrypted before is encrypted again.
    Raises ClanError for what is no key, and when this admin cannot read one of the secrets.
    """
    with store.locked():
        store.write(machine, *MACHINE_IDENTITY, recipient(key))
        reencrypt_locked(store, graph, machine)
        settle(store, machine, IDENTITY)
        store.stage([store.folder])


def expect_host_key(store: Store, machine: str, key: str) -> None:
    """Have a machine's new host key do beside the one that it shows."""
    with store.locked():
        store.write(machine, *HOST_KEY_VAR, "\n".join([store.host_keys(machine)[0], key]))


def keep_host_key(store: Store, machine: str, key: str) -> None:
    """Have a machine's new host key, which it was seen to show, be the only one that will do."""
    with store.locked():
        store.write(machine, *HOST_KEY_VAR, key)
        settle(store, machine, HOST_KEY)
        store.stage([store.folder])
