"""What a mesh generates: its root's public key, and each machine's identity and address.

shared/mesh-root-INSTANCE/publickey          written by `clan mesh root`, for life
MACHINE/mesh-INSTANCE/publickey              the identity, born on the machine, for life
MACHINE/mesh-address-INSTANCE/address        follows from those two
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.model.exports import Var
from clan.model.generator import Elsewhere, Generator, MachineKey, Needed, VarFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.generator import Inputs

PRIVATE = "privatekey"
PUBLIC = "publickey"
ADDRESS = "address"


def root_command(instance: str) -> str:
    """Return what makes the root, as it is typed."""
    return f"clan mesh root --network {instance}"


def root_name(instance: str) -> str:
    """Return the generator's name of the root."""
    return f"mesh-root-{instance}"


def identity_name(instance: str) -> str:
    """Return the generator's name of identities."""
    return f"mesh-{instance}"


def address_name(instance: str) -> str:
    """Return the generator's name of addresses."""
    return f"mesh-address-{instance}"


def root_var(instance: str) -> Var:
    """Return the var that the first root's public key is."""
    return Var(machine=None, generator=root_name(instance), file=PUBLIC)


def identity_var(instance: str, machine: str) -> Var:
    """Return the var that a machine's public identity is."""
    return Var(machine=machine, generator=identity_name(instance), file=PUBLIC)


def address_var(instance: str, machine: str) -> Var:
    """Return the var that a machine's address is."""
    return Var(machine=machine, generator=address_name(instance), file=ADDRESS)


def private_path(instance: str) -> str:
    """Return where a machine keeps its identity."""
    return f"/etc/clan/keys/{identity_name(instance)}/{PRIVATE}"


def _public(name: str) -> VarFile:
    return VarFile(name=name, secret=False, mode=0o444, needed=Needed.NEVER)


def root(instance: str) -> Generator:
    """Return how the root's public key gets here: `clan mesh root` writes it."""
    return Generator(
        name=root_name(instance),
        files=(_public(PUBLIC),),
        make=Elsewhere(command=root_command(instance)),
        for_life=True,
    )


def identity(instance: str, machine: str) -> Generator:
    """Return how a machine's identity is made: by the machine itself."""
    return Generator(
        name=identity_name(instance),
        machine=machine,
        files=(VarFile(name=PRIVATE, needed=Needed.ACTIVATION), _public(PUBLIC)),
        make=MachineKey.MESH,
        for_life=True,
    )


def address(instance: str, machine: str) -> Generator:
    """Return how a machine's address follows from its identity and the root."""

    def make(inputs: Inputs) -> Mapping[str, bytes]:
        from clan.mesh import identity as identities

        def key(generator: str) -> bytes:
            return identities.of_text(inputs.files[generator][PUBLIC].decode("ascii", "replace"))

        clan = identities.prefix(key(root_name(instance)))
        found = identities.address(clan, key(identity_name(instance)))
        return {ADDRESS: f"{found}\n".encode("ascii")}

    return Generator(
        name=address_name(instance),
        machine=machine,
        files=(_public(ADDRESS),),
        make=make,
        depends=(root_name(instance), identity_name(instance)),
    )
