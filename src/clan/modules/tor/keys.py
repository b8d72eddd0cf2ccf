"""The keys of onion services and of their clients: which there are, and how each is made.

All are made on the admin's computer: a service's name has to be known before its machine exists.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from clan.model.generator import Generator, Inputs, Needed, VarFile
from clan.modules.tor import onion
from clan.modules.tor.torrc import AUTH_PRIVATE, AUTH_PUBLIC, auth_generator, generator

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def service_key(instance: str, machine: str) -> Generator:
    """Return how a server's key is made."""
    return Generator(
        name=generator(instance),
        machine=machine,
        files=(
            # The public key is as secret as the name, which is made of it.
            VarFile(name="hs_ed25519_secret_key"),
            VarFile(name="hs_ed25519_public_key"),
            VarFile(name="hostname", needed=Needed.NEVER),
        ),
        make=make_service,
        overlaps=(machine,),
    )


def client_key(instance: str, servers: Iterable[str]) -> Generator:
    """Return how the key pair is made that opens an instance's services to clients."""
    return Generator(
        name=auth_generator(instance),
        files=(
            VarFile(name=AUTH_PRIVATE, needed=Needed.NEVER),
            VarFile(name=AUTH_PUBLIC, secret=False, mode=0o444, needed=Needed.NEVER),
        ),
        make=make_client_key,
        users=(),  # admins have it; a machine's Tor is lent it for a connection
        overlaps=tuple(servers),
    )


def make_service(inputs: Inputs) -> Mapping[str, bytes]:
    """Make the key of an onion service and its name."""
    del inputs
    made = onion.service(os.urandom(32))
    return {
        "hs_ed25519_secret_key": made.secret_key,
        "hs_ed25519_public_key": made.public_key,
        "hostname": made.hostname.encode() + b"\n",
    }


def make_client_key(inputs: Inputs) -> Mapping[str, bytes]:
    """Make the key pair that opens an instance's services to clients."""
    del inputs
    made = onion.client_key(os.urandom(32))
    return {AUTH_PRIVATE: f"{made.private}\n".encode(), AUTH_PUBLIC: f"{made.public}\n".encode()}
