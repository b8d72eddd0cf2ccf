"""What the clan's folder keeps of a mesh: its maps, and its root's private key.

    vars/mesh/INSTANCE/maps/EPOCH.SERIAL.HASH.READERS.age   maps in force
    vars/mesh/INSTANCE/root.age                             encrypted to the recovery key alone

A map is encrypted to the admins, as it holds the discovery secrets, which machines know and git
must not; READERS is a hash of who can read it. Each has a file of its own, so that two admins who
signed apart merge in git without a conflict: what comes of it is a fork, and is merged as one.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.mesh.chart import chart as charts
from clan.mesh.chart.accept import Held, accept
from clan.mesh.errors import MeshError
from clan.mesh.identity import Key, of_text, text
from clan.modules.mesh import keys
from clan.system.files import disk_errors_told, write_atomic
from clan.vars.admins import read_admins

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from clan.mesh.chart.chart import Chart
    from clan.vars.age import Identity
    from clan.vars.store import Store

FOLDER = "mesh"
ENDING = ".age"
SHOWN = 16
"""Digits of a map's hash in its file's name."""


@contextlib.contextmanager
def mesh_errors_told() -> Iterator[None]:
    """Turn what the mesh refuses into a ClanError."""
    try:
        yield
    except MeshError as fault:
        raise ClanError(str(fault)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a clan's folder has of a mesh's maps."""

    held: Held
    unread: Mapping[str, ClanError]
    """The beginning of a map's hash -> why this computer's admin cannot read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A mesh's part of the clan's folder."""

    store: Store
    instance: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.store.folder / FOLDER / self.instance

    @property
    def root_file(self) -> Path:
        """The root's private key, encrypted."""
        return self.folder / "root.age"

    def first_root(self) -> bytes:
        """Return the public key that the mesh began with. Raises ClanError when there is none."""
        public = self.store.public(keys.root_var(self.instance))
        if public is None:
            raise ClanError(
                f"the mesh {self.instance} has no root yet",
                hint=f"`{keys.root_command(self.instance)}` makes it",
            )
        with mesh_errors_told():
            return of_text(public)

    @property
    def has_root(self) -> bool:
        """Whether the mesh was begun."""
        return self.store.public(keys.root_var(self.instance)) is not None

    def maps(self) -> Found:
        """Return the maps in force, verified. Raises ClanError where there is no root, or no map.

        One that cannot be read may be known by a machine: who signs without it would fork.
        """
        first_root = self.first_root()
        found = sorted(self.folder.glob(f"maps/*{ENDING}"))
        if not found:
            raise ClanError(
                f"the mesh {self.instance} has a root and no map",
                where=str(self.folder),
                hint="bring back the folder from git or a backup",
            )
        identity = self.store.identity()
        read: list[Chart] = []
        unread: dict[str, ClanError] = {}
        for path in found:
            try:
                with _where(path), disk_errors_told():
                    raw = _opened(path, identity)
                    read.append(charts.read(raw, first_root, read[0] if read else None))
            except ClanError as fault:
                unread[path.name.split(".")[2] if path.name.count(".") > 2 else ""] = fault  # noqa: PLR2004
        held = Held.of()
        for each in sorted(read, key=lambda each: each.order):
            held = accept(held, each).held
        return Found(held=held, unread=unread)

    def keep(self, maps: Iterable[Chart]) -> None:
        """Keep just these maps, encrypted to the admins of now. The clan is locked. ClanError."""
        from clan.vars.age import encrypt

        admins = read_admins(self.store.folder).values()
        readers = sorted(each.key for each in admins if not each.leaving)
        wanted = {self._path(each, readers): each for each in maps}
        with disk_errors_told():
            (self.folder / "maps").mkdir(parents=True, exist_ok=True)
            for path, each in wanted.items():
                if not path.exists():
                    write_atomic(path, encrypt(each.raw, readers), mode=0o644)
            for path in self.folder.glob(f"maps/*{ENDING}"):
                if path not in wanted:
                    path.unlink(missing_ok=True)
        self.store.stage([self.folder])

    def keep_root(self, root: Key, recovery: str) -> None:
        """Keep a root's private key, encrypted to one recipient. Raises ClanError."""
        from clan.vars.age import encrypt

        sealed = encrypt(f"{text(root.seed)}\n".encode("ascii"), [recovery])
        with disk_errors_told():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.root_file, sealed, mode=0o644)
        self.store.stage([self.root_file])

    def root(self, recovery: Identity) -> Key:
        """Return the root's key, for as long as it is needed. Raises ClanError."""
        with _where(self.root_file), disk_errors_told():
            return Key.of_seed(
                of_text(_opened(self.root_file, recovery).decode("ascii", "replace"))
            )

    def _path(self, each: Chart, readers: Iterable[str]) -> Path:
        who = hashlib.sha256("\n".join(readers).encode()).hexdigest()[:8]
        name = f"{each.epoch}.{each.serial}.{each.hash.hex()[:SHOWN]}.{who}{ENDING}"
        return self.folder / "maps" / name


def _opened(path: Path, identity: Identity) -> bytes:
    from clan.vars.age import decrypt

    return decrypt(path.read_bytes(), identity)


@contextlib.contextmanager
def _where(path: Path) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except ClanError as fault:
        raise ClanError(fault.message, where=fault.where or str(path), hint=fault.hint) from None
    except MeshError as fault:
        raise ClanError(str(fault), where=str(path)) from None
