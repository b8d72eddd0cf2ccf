"""The lab's image: a Debian root that every machine starts from, and a small Debian repository.

Both are made once and kept by a hash of their recipe, so a changed recipe makes another and no lab
ever sees a half-made one. Machines lay their own files over the root and never write to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab import repository
from clan.lab.processes import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUITE = "bookworm"

PACKAGES = (
    "apt",
    "avahi-daemon",
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iputils-ping",
    "libnss-mdns",
    "libpam-systemd",
    "netbase",
    "nftables",
    "openssh-server",
    "python3",
    "rsync",
    "systemd",
    "systemd-resolved",
    "systemd-sysv",
)
"""What a machine has from the start."""

_RECIPE = 2
"""Raised when what is done below changes, so that older images are not used."""

_APT_OPTIONS = (
    'Acquire::Check-Valid-Until "false"',
    'Acquire::Languages "none"',
    'APT::Install-Recommends "false"',
)
_DPKG_OPTIONS = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
    "force-unsafe-io",
)

# Timers that would wake every machine of a lab, and a cleaner that would empty /tmp, in which a
# machine with `clan = true` may have the clan's own folder.
_MASKED = (
    "etc/systemd/system/apt-daily.timer",
    "etc/systemd/system/apt-daily-upgrade.timer",
    "etc/systemd/system/dpkg-db-backup.timer",
    "etc/systemd/system/e2scrub_all.timer",
    "etc/systemd/system/fstrim.timer",
    "etc/systemd/system/systemd-pstore.service",
    "etc/systemd/system/console-getty.service",
    "etc/tmpfiles.d/tmp.conf",
)

_FILES = {
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nPermitRootLogin prohibit-password\n",
    "etc/machine-id": "",
    "etc/fstab": "",
    # Newer than /usr: what systemd would bring up to date at a first boot is so already.
    "etc/.updated": "",
    "var/.updated": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A finished image in the cache."""

    folder: Path

    @property
    def root(self) -> Path:
        """The root of a machine, to be read only."""
        return self.folder / "root"

    @property
    def repository(self) -> Path:
        """The Debian repository: what its web server serves, and `key.asc` that it is signed by."""
        return self.folder / "repository"


def cache() -> Path:
    """Return the folder that images are kept in."""
    return Path(os.environ.get("CLAN_LAB_CACHE", "/var/cache/clan-lab"))


def wanted() -> Image:
    """Return the image that this version's recipe makes, whether or not it is there."""
    recipe = [_RECIPE, SUITE, PACKAGES, repository.PACKAGES, _APT_OPTIONS, _DPKG_OPTIONS, _MASKED]
    digest = hashlib.sha256(json.dumps([*recipe, _FILES], sort_keys=True).encode()).hexdigest()
    return Image(folder=cache() / f"{SUITE}-{digest[:16]}")


def find() -> Image:
    """Return the image, or raise LabError that says how to make it."""
    image = wanted()
    if not image.folder.is_dir():
        raise LabError(f"there is no image for the lab's machines in {cache()}",
                       hint="make it with `clan lab image`; it takes about a minute")  # fmt: skip
    return image


def build(report: Callable[[str], None]) -> Image:
    """Make the image unless it is there; `report` is told each step.

    Two builds at once make one. Raises LabError when a program or the Debian mirror fails.
    """
    image = wanted()
    if image.folder.is_dir():
        return image
    cache().mkdir(parents=True, exist_ok=True)
    with _locked(report) as run:
        if image.folder.is_dir():
            return image
        for left in cache().glob(".building-*"):
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=cache()) as folder:
            draft = Image(folder=Path(folder, "image"))
            draft.folder.mkdir()
            report(f"making a Debian {SUITE} root")
            _make_root(draft, run)
            report("signing the repository")
            repository.index(draft.repository, Path(folder, "gnupg"), run)
            draft.folder.rename(image.folder)
    return image


def _make_root(draft: Image, run: Runner) -> None:
    draft.repository.mkdir()
    argv = ["mmdebstrap", "--variant=essential", "--format=directory", "--quiet"]
    argv += [f"--include={','.join(PACKAGES)}"]
    argv += [f"--aptopt={option}" for option in _APT_OPTIONS]
    argv += [f"--dpkgopt={option}" for option in _DPKG_OPTIONS]
    argv += [f"--customize-hook={hook}" for hook in repository.hooks(draft.repository)]
    run.step([*argv, SUITE, str(draft.root), *_sources()])
    for path in _MASKED:
        target = draft.root / path
        target.parent.mkdir(exist_ok=True)
        target.symlink_to("/dev/null")
    for path, text in _FILES.items():
        (draft.root / path).write_text(text)
    for key in (draft.root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (draft.root / "etc/hostname").unlink(missing_ok=True)
    shutil.rmtree(draft.root / "etc/apt/sources.list.d")
    (draft.root / "etc/apt/sources.list.d").mkdir()
    (draft.root / "etc/apt/sources.list").unlink(missing_ok=True)
    run.step(["systemctl", f"--root={draft.root}", "--quiet", "enable", "systemd-networkd"])


def _sources() -> list[str]:
    """Return this computer's own list of Debian mirrors, where it is for the same suite."""
    for path in ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"):
        source = Path(path)
        if source.exists() and SUITE in source.read_text():
            return [path]
    return []


@contextmanager
def _locked(report: Callable[[str], None]) -> Iterator[Runner]:
    """Hold the cache's lock. The programs that build hold it too, until they have ended."""
    lock = os.open(cache() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another build of the image")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield Runner(lock=lock)
    finally:
        os.close(lock)
