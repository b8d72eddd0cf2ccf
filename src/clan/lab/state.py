"""Where a lab is kept on this computer, and the lock on it.

    /var/lib/clan-lab/NAME/        all files of a lab, for root only (CLAN_LAB_STATE: elsewhere)
    /run/clan-lab/NAME.lock        held while a lab is being changed
    /run/netns/clan-lab-NAME*      its network namespaces
    clan-lab-NAME                  its control group

All of it is found by the lab's name alone, so what a killed `up` left can be taken away.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import PrivilegeError, UsageError
from clan.lab.processes import Group
from clan.lab.schema import dump, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.lab.config import LabConfig

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LOCKS = Path("/run/clan-lab")
_NAMESPACES = Path("/run/netns")
_MNT_DETACH = 2


def require_root() -> None:
    """Raise PrivilegeError for anyone but root."""
    if os.geteuid() != 0:
        raise PrivilegeError(
            "the lab makes network namespaces and mounts, which only root may",
            hint="run it with sudo",
        )


def name_for(folder: Path) -> str:
    """Return the lab's name for a clan's folder: the folder's own, as far as a name may go."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-_")
    return name[:63] or "clan"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The places of one lab, by its name."""

    name: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} cannot be a lab's name",
                hint="lower-case letters, digits, '-' and '_', 63 at most",
            )

    @property
    def folder(self) -> Path:
        """The folder of all files of the lab."""
        return Path(os.environ.get("CLAN_LAB_STATE", "/var/lib/clan-lab")) / self.name

    @property
    def daemons(self) -> Path:
        """The folder daemons start in: their configuration and their logs."""
        return self.folder / "daemons"

    @property
    def agent(self) -> Path:
        """The socket of the lab's ssh-agent."""
        return self.folder / "agent" / "socket"

    @property
    def resolver(self) -> Path:
        """The admin's resolv.conf."""
        return self.folder / "resolv.conf"

    @property
    def programs(self) -> Path:
        """The folder of programs that come first at the admin's place."""
        return self.folder / "bin"

    @property
    def tor(self) -> Path:
        """The folder of its Tor network."""
        return self.folder / "tor"

    @property
    def tor_settings(self) -> Path:
        """What makes a clan's instance of `tor` use that network: settings in TOML."""
        return self.tor / "settings.toml"

    @property
    def mount(self) -> Path:
        """An empty folder to mount on, seen by no other process."""
        return self.folder / "mount"

    @property
    def private(self) -> dict[str, Path]:
        """What `clan` uses in the lab instead of this computer's own: variable -> folder."""
        return {
            "CLAN_VARS_DIR": self.folder / "vars",
            "XDG_STATE_HOME": self.folder / "xdg-state",
            "XDG_CACHE_HOME": self.folder / "xdg-cache",
        }

    @property
    def group(self) -> Group:
        """The control group of all its processes."""
        return Group(path=f"clan-lab-{self.name}")

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Hold the lab's lock, waiting for whoever holds it; yields its descriptor."""
        _LOCKS.mkdir(mode=0o700, exist_ok=True)
        path = _LOCKS / f"{self.name}.lock"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except BaseException:
                os.close(lock)
                raise
            # Whoever held it may have been a `down`, which takes the file with it.
            if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
                break
            os.close(lock)
        try:
            yield lock
        finally:
            if not self.folder.exists():
                path.unlink(missing_ok=True)
            os.close(lock)

    def record(self, config: LabConfig, clan_dir: Path) -> None:
        """Write down what the lab is to be, before anything of it is made."""
        self.folder.mkdir(mode=0o700, parents=True)
        document = {"config": dump(config), "clan_dir": str(clan_dir)}
        (self.folder / "lab.json").write_text(json.dumps(document))

    def recorded(self) -> tuple[LabConfig, Path] | None:
        """Return what `record` wrote, or None when there is no such lab."""
        try:
            document = json.loads((self.folder / "lab.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return parse(document["config"]), Path(document["clan_dir"])

    @property
    def complete(self) -> Path:
        """A file that is there once `up` is through; its text is the boot it happened in."""
        return self.folder / "complete"

    def is_up(self) -> bool:
        """Return whether `up` got through, in this boot of the computer."""
        return self.complete.exists() and self.complete.read_text() == boot_id()

    def namespaces(self) -> list[Path]:
        """Return the files of the lab's network namespaces."""
        own = f"clan-lab-{self.name}"
        if not _NAMESPACES.is_dir():
            return []
        return [
            path
            for path in _NAMESPACES.iterdir()
            if path.name == own or path.name.startswith(f"{own}.")
        ]

    def remove(self) -> None:
        """Take away all there is of the lab, whatever state it is in."""
        self.group.end()
        libc = ctypes.CDLL(None, use_errno=True)
        for path in self.namespaces():
            # A namespace that was only half made is a plain file: then this fails and need not.
            libc.umount2(os.fsencode(path), _MNT_DETACH)
            path.unlink()
        if self.folder.exists():
            shutil.rmtree(self.folder)


def boot_id() -> str:
    """Return what tells this boot of the computer from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def names() -> list[str]:
    """Return the names of the labs that there are files of."""
    parent = State(name="any").folder.parent
    return sorted(path.name for path in parent.iterdir()) if parent.is_dir() else []
