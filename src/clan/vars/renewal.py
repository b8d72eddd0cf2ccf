"""Keeping what a machine made anew of its own: its age identity and its host key.

The identity counts from the moment it is kept: the machine has both, and what the clan has for it
is encrypted to the new one alone. Of host keys both count until the machine was seen to show the
new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.vars.age import recipient
from clan.vars.readers import reencrypt_locked
from clan.vars.rotation import HOST_KEY, IDENTITY, rotations, settle
from clan.vars.store import HOST_KEY as HOST_KEY_VAR
from clan.vars.store import MACHINE_IDENTITY

if TYPE_CHECKING:
    from clan.vars.graph import Graph
    from clan.vars.store import Store


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
