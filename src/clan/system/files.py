"""Files that survive a crash: replaced whole or not at all, and one writer at a time.

It owns how bytes reach the disk. What is in them, and what git makes of them, is not known here.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError

if TYPE_CHECKING:
    from collections.abc import Iterator

_POLL = 0.02
"""Seconds between two attempts to take a lock."""


@contextmanager
def disk_errors_told() -> Iterator[None]:
    """Turn what the disk refuses (no permission, no space) into a ClanError with the file."""
    try:
        yield
    except OSError as fault:
        where = None if fault.filename is None else str(fault.filename)
        raise ClanError(fault.strerror or str(fault), where=where) from fault


def write_atomic(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace the file at `path` by `data`: after a crash it holds all of the old or of the new.

    A file that exists keeps its permissions and, as far as allowed, its owner; a new one gets
    `mode`, or what the umask leaves of 0666. Through a symbolic link the file it leads to is
    replaced, so that the link stays. Raises OSError.
    """
    target = path.resolve()
    draft = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    fd = os.open(draft, flags, 0o666 if mode is None else mode)
    try:
        with os.fdopen(fd, "wb") as file:
            _copy_owner_and_mode(target, file.fileno())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def create_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, whole or not at all. Raises FileExistsError if it is."""
    draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    write_atomic(draft, data)
    try:
        os.link(draft, path)  # unlike rename, link refuses to replace
    finally:
        draft.unlink()
    sync_directory(path.parent)


def _copy_owner_and_mode(source: Path, fd: int) -> None:
    try:
        status = source.stat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):  # only root may give a file away
        os.fchown(fd, status.st_uid, status.st_gid)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder to `target`, which must not exist: there it is whole or not at all.

    The copy is made beside it as `.NAME.copy`; one that a crash left there is made anew. Modes,
    times and symbolic links are kept. Raises OSError.
    """
    draft = target.with_name(f".{target.name}.copy")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(source, draft, symlinks=True)
    for folder, _, names in os.walk(draft):
        for name in names:
            _sync_file(Path(folder, name))
        sync_directory(Path(folder))
    draft.rename(target)
    sync_directory(target.parent)


def same_or_subset(part: Path, whole: Path) -> bool:
    """Say whether every file under `part` is under `whole` too, with the same bytes."""
    for folder, _, names in os.walk(part):
        for name in names:
            mine = Path(folder, name)
            other = whole / mine.relative_to(part)
            if mine.is_symlink() or other.is_symlink():
                if not (mine.is_symlink() and other.is_symlink()):
                    return False
                if mine.readlink() != other.readlink():
                    return False
            elif not other.is_file() or mine.read_bytes() != other.read_bytes():
                return False
    return True


def _sync_file(path: Path) -> None:
    if path.is_symlink():
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Have the disk know the names in a folder."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(directory: Path, *, patience: float = 10.0) -> Iterator[None]:
    """Hold the folder's lock, waiting `patience` seconds for it; then a ClanError says so.

    The lock is on the folder itself (flock), so it leaves no file behind and ends with the
    process however that ends.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _take(fd, directory, time.monotonic() + patience)
        yield
    finally:
        os.close(fd)


def _take(fd: int, directory: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise ClanError(
                    "another command is changing this clan",
                    where=str(directory),
                    hint="wait until it has ended, then try again",
                ) from None
            time.sleep(_POLL)
        else:
            return
