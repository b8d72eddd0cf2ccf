"""Where the clan's generated values are kept: `vars/per-machine/MACHINE/GENERATOR/FILE/value`.

Public values only: what is here is readable by whoever can read the clan's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.system.files import disk_errors_told, write_atomic
from clan.system.git import stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.exports import Var

HOST_KEY = ("openssh", "ssh.id_ed25519.pub")
"""Generator and file of a machine's public host key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The vars of one clan, in `folder`; `clan` is the clan's folder."""

    clan: Path
    folder: Path

    @classmethod
    def of(cls, clan: Path, environ: Mapping[str, str]) -> Store:
        """Return the clan's store, or the one that `CLAN_VARS_DIR` names (a lab has its own)."""
        given = environ.get("CLAN_VARS_DIR")
        return cls(clan=clan, folder=Path(given) if given else clan / "vars")

    def path(self, machine: str, generator: str, file: str) -> Path:
        """Return where a machine's public value is, or would be."""
        return self.folder / "per-machine" / machine / generator / file / "value"

    def reveal(self, var: Var) -> str:
        """Return a value. Raises ClanError when it has not been generated."""
        if var.machine is not None:
            found = self.read(var.machine, var.generator, var.file)
            if found is not None:
                return found
        raise ClanError(f"the var {var.generator}/{var.file} of {var.machine} is not there yet")

    def read(self, machine: str, generator: str, file: str) -> str | None:
        """Return a machine's public value without the line end, or None when there is none.

        Raises ClanError when what is there cannot be read.
        """
        path = self.path(machine, generator, file)
        try:
            return path.read_text("utf-8").strip()
        except FileNotFoundError:
            return None
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
        if path.is_relative_to(self.clan):
            stage(self.clan, [path])
        return path

    def host_key(self, machine: str) -> str | None:
        """Return the machine's public host key, `ssh-ed25519 AAAA…`, or None before it is known."""
        written = self.read(machine, *HOST_KEY)
        return " ".join(written.split()[:2]) if written else None
