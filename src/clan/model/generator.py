"""Generators: how a module has values made that the clan keeps, public and secret.

A generator belongs to one machine or is shared by the clan. What it makes is a set of files, the
vars. It runs where its secrets are to be born: on the admin's computer, or on the machine itself,
which then hands out the public files alone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


FORMER = "former"
"""Beside values that `overlap` what they replaced: a public file that lists, a line each, the
machines for which the replaced ones are kept. Those are the files `former.NAME`."""


def former(name: str) -> str:
    """Return the name under which what a file replaced is kept beside it."""
    return f"{FORMER}.{name}"


def is_former(name: str) -> bool:
    """Whether a file tells of what was replaced, and is none that a generator makes."""
    return name == FORMER or name.startswith(former(""))


class Needed(enum.StrEnum):
    """When a machine has to have a file."""

    ACTIVATION = "activation"
    """Before anything of a generation is applied."""
    SERVICES = "services"
    """Before its units start."""
    NEVER = "never"
    """It stays in the clan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VarFile:
    """One file that a generator makes; `mode`, `owner` and `group` are those on the machine."""

    name: str
    secret: bool = True
    owner: str = "root"
    group: str = "root"
    mode: int = 0o400
    needed: Needed = Needed.SERVICES


class PromptKind(enum.StrEnum):
    """How a person is asked."""

    LINE = "line"
    HIDDEN = "hidden"
    MULTILINE = "multiline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A value that only a person knows."""

    name: str
    description: str
    kind: PromptKind = PromptKind.HIDDEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a generator is made from: answers by prompt, and files by generator and name."""

    prompts: Mapping[str, str]
    files: Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A bash script, run in a sandbox without network.

    It reads `$in/GENERATOR/FILE` and `$prompts/NAME`, and writes `$out/FILE`.

    `programs` are the commands it needs on PATH.
    """

    text: str
    programs: tuple[str, ...] = ()


class MachineKey(enum.StrEnum):
    """A key pair that is born on the machine: files `privatekey` and `publickey`."""

    WIREGUARD = "wireguard"
    """X25519 in base64, as `wg genkey` and `wg pubkey` write it."""
    MESH = "mesh"
    """A machine's identity in a mesh: Ed25519 in base64 (`clan.mesh.identity`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Files that a command of its own keeps here, on a person's word: due until it was run."""

    command: str
    """As it is typed, `clan mesh root`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """How to make one set of files.

    `machine` None is a generator that the clan shares: `users` are the machines that get its
    secrets, by default all members of the instance that declares it. `depends` names generators
    of the same machine, else shared ones. `version` and `inputs` (JSON values, nothing secret) are
    what the files are made from: when either changes they are due again.

    `for_life` is a value that others know the machine by, such as an address computed from a key:
    it is replaced only on request, and others must admit the machine again.

    `overlaps` are machines that are reached by these values, such as the name of an onion service.
    What is replaced is kept beside as `former.FILE`, for the module to go on with, until each of
    those that are installed was updated, and reached without it.
    """

    name: str
    files: tuple[VarFile, ...]
    make: Callable[[Inputs], Mapping[str, bytes]] | Script | MachineKey | Elsewhere
    machine: str | None = None
    prompts: tuple[Prompt, ...] = ()
    depends: tuple[str, ...] = ()
    version: int = 1
    inputs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    users: tuple[str, ...] | None = None
    for_life: bool = False
    overlaps: tuple[str, ...] = ()

    @property
    def born_on_machine(self) -> bool:
        """Whether its secrets never leave the machine that uses them."""
        return isinstance(self.make, MachineKey)
