"""Ids of vars and generators: `nas/wireguard-keys-vpn/publickey`, `shared/ca/cert.pem`.

It owns how they are written and read, and what a part of one may be called: each is a folder.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.errors import ClanError, UsageError, did_you_mean
from clan.model.exports import Var

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SHARED = "shared"
_LONGEST = 100
_FIRST = frozenset(string.ascii_letters + string.digits)
_PLAIN = _FIRST | set("-_.")
_PARTS = ("machine", "generator", "file")
_FEW = 10
"""Fewer names than this are listed when none of them is near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorId:
    """A generator of a machine; `machine` None is one that the clan shares."""

    machine: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.machine or SHARED}/{self.name}"

    @property
    def label(self) -> str:
        """How generators of the same machine call it: renaming the machine leaves it as it is."""
        return self.name if self.machine is not None else f"{SHARED}/{self.name}"

    def var(self, file: str) -> Var:
        """Return a file of it."""
        return Var(machine=self.machine, generator=self.name, file=file)


def generator_of(var: Var) -> GeneratorId:
    """Return the generator that makes a var."""
    return GeneratorId(machine=var.machine, name=var.generator)


def is_plain(name: str) -> bool:
    """Say whether a name is 1 to 100 of `A-Z a-z 0-9 - _ .`, the first a letter or digit."""
    return 0 < len(name) <= _LONGEST and name[0] in _FIRST and _PLAIN.issuperset(name)


def var_id(var: Var) -> str:
    """Write a var's id."""
    return f"{var.machine or SHARED}/{var.generator}/{var.file}"


def parse(text: str) -> Var:
    """Read an id. Raises UsageError for what is none."""
    parts = text.split("/")
    if len(parts) != len(_PARTS) or not all(is_plain(part) for part in parts):
        raise UsageError(
            f"{text!r} is no id of a var",
            hint="ids are MACHINE/GENERATOR/FILE, or shared/GENERATOR/FILE",
        )
    machine, generator, file = parts
    return Var(machine=None if machine == SHARED else machine, generator=generator, file=file)


def find(text: str, there: Collection[Var]) -> Var:
    """Return the var that an id names; a ClanError says which part of it names nothing.

    The parts are looked at one by one, so that ten thousand ids are not compared with each other.
    """
    wanted = parse(text)
    if wanted in there:
        return wanted
    rows: Iterable[tuple[str, ...]] = [tuple(var_id(var).split("/")) for var in there]
    for place, (part, what) in enumerate(zip(text.split("/"), _PARTS, strict=True)):
        names = {row[place] for row in rows}
        if part not in names:
            before = "/".join(text.split("/")[:place])
            raise ClanError(
                f"{before} has no {what} {part!r}" if before else f"no {what} {part!r} has vars",
                hint=nearest(part, names, what),
            )
        rows = [row for row in rows if row[place] == part]
    raise ClanError(f"there is no var {text!r}")


def nearest(name: str, there: Collection[str], what: str) -> str | None:
    """Return `did you mean X?`, else the names there are when they are few."""
    listed = f"{what}s: {', '.join(sorted(there))}" if 0 < len(there) < _FEW else None
    return did_you_mean(name, there) or listed
