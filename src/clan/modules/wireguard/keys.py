"""The key pair of each member: born on its machine, which hands out the public half alone."""

from __future__ import annotations

from clan.model.exports import Var
from clan.model.generator import Generator, MachineKey, Needed, VarFile

PRIVATE = "privatekey"
PUBLIC = "publickey"


def generator_name(instance: str) -> str:
    """Return what the generator of an instance's keys is called."""
    return f"wireguard-keys-{instance}"


def generator(instance: str, machine: str) -> Generator:
    """Return how a member's key pair is made: by the machine itself."""
    return Generator(
        name=generator_name(instance),
        machine=machine,
        files=(
            VarFile(name=PRIVATE, needed=Needed.ACTIVATION),
            VarFile(name=PUBLIC, secret=False, mode=0o444, needed=Needed.NEVER),
        ),
        make=MachineKey.WIREGUARD,
    )


def private_path(instance: str) -> str:
    """Return where a machine keeps its private key."""
    return f"/etc/clan/keys/{generator_name(instance)}/{PRIVATE}"


def public_var(instance: str, machine: str) -> Var:
    """Return the var that a member's public key is."""
    return Var(machine=machine, generator=generator_name(instance), file=PUBLIC)
