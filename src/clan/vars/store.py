"""Where the clan's generated values are kept, and how they are read.

    vars/per-machine/MACHINE/GENERATOR/FILE/value    public
    vars/per-machine/MACHINE/GENERATOR/FILE/secret   encrypted to the machine and the admins
    vars/shared/GENERATOR/FILE/…                     the same, of the whole clan
    vars/per-machine/MACHINE/due.json                what the machine is to make anew
    vars/admins/NAME.toml                            see `admins`

Public values are readable by whoever can read the clan's folder. Every command that reaches a
machine imports this file, so it imports nothing that only secrets need.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.system.files import disk_errors_told, locked, write_atomic
from clan.system.git import stage
from clan.system.places import config_home
from clan.vars.folder import SECRET, VALUE, read_file
from clan.vars.names import var_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clan.model.exports import Var
    from clan.vars.age import Identity
    from clan.vars.names import GeneratorId

HOST_KEY = ("openssh", "ssh.id_ed25519.pub")
"""Generator and file of a machine's public host key.

While the machine goes from one key to the next the file has two lines: what it shows, and what it
will show once that is confirmed.
"""
MACHINE_IDENTITY = ("identity", "age.pub")
"""Generator and file of a machine's age recipient: what its secrets are encrypted to."""
PER_MACHINE = "per-machine"
SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The vars of one clan, in `folder`; `clan` is the clan's folder.

    `keys` are the files in which the admin's private key is looked for, the first that exists.
    """

    clan: Path
    folder: Path
    keys: tuple[Path, ...] = ()

    @classmethod
    def of(cls, clan: Path, environ: Mapping[str, str]) -> Store:
        """Return the clan's store, or the one that `CLAN_VARS_DIR` names (a lab has its own)."""
        given = environ.get("CLAN_VARS_DIR")
        ssh = Path(environ.get("HOME", "/"), ".ssh/id_ed25519")
        return cls(
            clan=clan,
            folder=Path(given) if given else clan / "vars",
            keys=(config_home(environ) / "age.key", ssh),
        )

    def place(self, machine: str | None, generator: str) -> Path:
        """Return a generator's folder; see `clan.vars.folder` for what is in it."""
        if machine is None:
            return self.folder / SHARED / generator
        return self.folder / PER_MACHINE / machine / generator

    def place_of(self, generator: GeneratorId) -> Path:
        """Return a generator's folder."""
        return self.place(generator.machine, generator.name)

    def public(self, var: Var) -> str | None:
        """Return a public value without the line end, or None when there is none."""
        data = read_file(self.place(var.machine, var.generator), var.file, VALUE)
        return None if data is None else data.decode("utf-8", "replace").strip()

    def sealed(self, var: Var) -> bytes | None:
        """Return a secret as it lies in the clan, encrypted; None when there is none."""
        return read_file(self.place(var.machine, var.generator), var.file, SECRET)

    def value(self, var: Var) -> bytes | None:
        """Return a value, decrypted with the admin's key if it is secret; None when there is none.

        Raises ClanError when it is secret and not for this admin.
        """
        data = read_file(self.place(var.machine, var.generator), var.file, VALUE)
        if data is not None:
            return data
        sealed = self.sealed(var)
        if sealed is None:
            return None
        from clan.vars.age import decrypt

        try:
            return decrypt(sealed, self.identity())
        except ClanError as fault:
            raise ClanError(fault.message, where=var_id(var), hint=fault.hint) from None

    def path(self, machine: str, generator: str, file: str) -> Path:
        """Return where a machine's public value is, or would be."""
        return self.place(machine, generator) / file / VALUE

    def reveal(self, var: Var) -> str:
        """Return a value as text without the line end. Raises ClanError when it is not there."""
        data = self.value(var)
        if data is None:
            whose = "the clan" if var.machine is None else var.machine
            raise ClanError(
                f"the var {var.generator}/{var.file} of {whose} is not there yet",
                hint="`clan vars generate` makes what is missing",
            )
        return data.decode("utf-8", "replace").strip()

    def identity(self) -> Identity:
        """Return the admin's private key. Raises ClanError when there is none."""
        from clan.vars.age import read_identity

        for path in self.keys:
            try:
                return read_identity(path)
            except FileNotFoundError:
                continue
        where = str(self.keys[0]) if self.keys else None
        raise ClanError(
            "there is no private key here to read secrets with",
            where=where,
            hint="`clan vars keys generate` makes one; an admin adds it by `clan vars keys add`",
        )

    def read(self, machine: str, generator: str, file: str) -> str | None:
        """Return a machine's public value without the line end, or None when there is none.

        Raises ClanError when what is there cannot be read.
        """
        path = self.path(machine, generator, file)
        try:
            data = read_file(self.place(machine, generator), file, VALUE)
            return None if data is None else data.decode("utf-8").strip()
        except OSError as fault:
            raise ClanError(f"cannot be read: {fault.strerror}", where=str(path)) from fault
        except UnicodeDecodeError as fault:
            raise ClanError("is not UTF-8 text", where=str(path)) from fault

    def write(self, machine: str, generator: str, file: str, value: str) -> Path:
        """Keep a machine's public value, and stage the file where the clan is in git.

        Raises ClanError when it cannot be written.
        """
        path = self.path(machine, generator, file)
        with disk_errors_told():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, f"{value}\n".encode(), mode=0o644)
        self.stage([path])
        return path

    def host_key(self, machine: str) -> str | None:
        """Return what the machine may show, `ssh-ed25519 AAAA…` a line; None before it is known."""
        return "\n".join(self.host_keys(machine)) or None

    def host_keys(self, machine: str) -> list[str]:
        """Return the host key that the machine shows, and after it one that it is to show."""
        written = self.read(machine, *HOST_KEY) or ""
        return [" ".join(line.split()[:2]) for line in written.splitlines() if line.strip()]

    def machine_identity(self, machine: str) -> str | None:
        """Return the recipient that the machine decrypts with, or None before it is installed."""
        return self.read(machine, *MACHINE_IDENTITY)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that changes this clan.

        The lock is the clan's, which renaming a machine takes too, and the vars' own where a lab
        has them elsewhere. Raises ClanError when another command does not end.
        """
        with disk_errors_told():
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.clan):
                if self.folder.is_relative_to(self.clan):
                    yield
                else:
                    with locked(self.folder):
                        yield

    def stage(self, paths: Iterable[Path]) -> str | None:
        """Stage what changed where it lies in the clan; return git's complaint, if any."""
        inside = [path for path in paths if path.is_relative_to(self.clan)]
        return stage(self.clan, inside) if inside else None
