"""Where things are on a machine, and the small files that decide which generation counts.

    /etc/clan/                      what is born here and never leaves: identity and keys (0600)
    /var/lib/clan/generations/N/    one generation: manifest.json, files/, units/ …
    /var/lib/clan/static/           programs that were sent here, whichever generations use them
    /var/lib/clan/machine.pyz       this program, as the confirmed one has it
    /var/lib/clan/current           link to the generation that is applied
    /var/lib/clan/confirmed         link to the one that a boot starts
    /run/clan/                      what a boot forgets: secrets in the clear, an activation's state

Generation 0 is empty and always there, so that the first one can be rolled back too.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CURRENT = "current"
CONFIRMED = "confirmed"
MANIFEST = "manifest.json"
PROGRAM = "machine.pyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of one machine; `root` is / but for tests."""

    root: Path = Path("/")

    @property
    def own(self) -> Path:
        """What is born on the machine."""
        return self.root / "etc/clan"

    @property
    def state(self) -> Path:
        """What survives a boot."""
        return self.root / "var/lib/clan"

    @property
    def generations(self) -> Path:
        """One folder a generation, named by its number."""
        return self.state / "generations"

    @property
    def run(self) -> Path:
        """What a boot forgets: in memory."""
        return self.root / "run/clan"

    @property
    def secrets(self) -> Path:
        """Secrets in the clear, by the name of their encrypted file."""
        return self.run / "secrets"

    @property
    def activation(self) -> Path:
        """How the activation under way stands, for whoever asks."""
        return self.run / "activation.json"

    @property
    def program(self) -> Path:
        """This program, as the confirmed generation has it."""
        return self.state / PROGRAM

    def program_of(self, number: int) -> Path:
        """Return the program that came with a generation; generation 0 came with none."""
        own = self.generation(number) / PROGRAM
        return own if own.exists() else self.program

    @property
    def booted(self) -> Path:
        """There once this boot has started its generation."""
        return self.run / "booted"

    @property
    def touched(self) -> Path:
        """Paths outside of ours that a generation has put something at."""
        return self.state / "touched.json"

    @property
    def opened(self) -> Path:
        """What was added to firewalls of somebody else's."""
        return self.state / "opened.json"

    @property
    def parameters(self) -> Path:
        """What kernel parameters were before a generation set them, in this boot."""
        return self.run / "parameters.json"

    @property
    def reserve(self) -> Path:
        """Room that going back has on a disk that is full."""
        return self.state / "reserve"

    def generation(self, number: int) -> Path:
        """Return a generation's folder."""
        return self.generations / str(number)

    def numbers(self) -> list[int]:
        """List the generations that are there, complete ones only."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                int(folder.name)
                for folder in self.generations.iterdir()
                if folder.name.isdecimal() and (folder / MANIFEST).is_file()
            )
        return []

    def chosen(self, which: str) -> int:
        """Return the number that `current` or `confirmed` leads to; 0 where there is none."""
        try:
            number = int((self.state / which).readlink().name)
        except (OSError, ValueError):
            return 0
        return number if (self.generation(number) / MANIFEST).is_file() else 0

    def choose(self, which: str, number: int) -> None:
        """Let `current` or `confirmed` lead to a generation, from one moment to the next."""
        draft = self.state / f".{which}.new"
        draft.unlink(missing_ok=True)
        draft.symlink_to(f"generations/{number}")
        draft.replace(self.state / which)
        sync(self.state)

    def manifest(self, number: int) -> dict[str, Any]:
        """Read what a generation consists of."""
        read: dict[str, Any] = json.loads((self.generation(number) / MANIFEST).read_bytes())
        return read

    def prepare(self) -> None:
        """Make the folders, and generation 0."""
        # Daemons have their configuration below it; what is secret there says so itself.
        for folder, mode in ((self.own, 0o755), (self.own / "keys", 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        self.generation(0).mkdir(parents=True, exist_ok=True)
        self.run.mkdir(parents=True, exist_ok=True)
        # Whatever the umask of whoever made them: daemons that are not root read what is theirs.
        for folder in (self.state, self.generations, self.run):
            folder.chmod(0o755)
        empty = self.generation(0) / MANIFEST
        if not empty.exists():
            write(empty, b"{}")
        for which in (CURRENT, CONFIRMED):
            if not (self.state / which).is_symlink():
                self.choose(which, 0)


def draft_of(path: Path) -> Path:
    """Return where a file's new content, or a new link, lies until it takes the file's place."""
    return path.with_name(f".{path.name}.clan-new")


def write(path: Path, data: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Replace a file, so that after a crash it holds all of the old or of the new.

    `owner` is user and group by number; None is whoever runs this.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make what was renamed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def boot_id() -> str:
    """Return the name of this boot (random(4), boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
