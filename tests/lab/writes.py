"""What reached a disk, write by write, and the disk as a power cut would leave it.

QEMU's `blklogwrites` writes the log, in the format of the kernel's dm-log-writes
(Documentation/admin-guide/device-mapper/log-writes.rst). A cut may come after any write. What was
written since the last flush may be in the disk's own memory still, and is lost in any selection.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SECTOR = 512
_ENTRY = struct.Struct("<4Q")
_FLUSH, _FUA, _DISCARD = 1, 2, 4
_COMMIT = struct.pack(">2L", 0xC03B3998, 2)
"""How the block begins that ends a transaction (Documentation/filesystems/ext4/journal.rst)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """One entry: where it goes on the disk, and where its data is in the log, in bytes."""

    at: int
    size: int
    data: int
    flags: int

    @property
    def end(self) -> int:
        """Where the log goes on after it."""
        return self.data + (0 if self.flags & _DISCARD else self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A disk that has the first `after` writes, without those in `lost`.

    The first `settled` of them were flushed: none is lost.
    """

    after: int
    settled: int
    lost: frozenset[int] = frozenset()


def read(log: Path) -> list[Write]:
    """Return all entries that are in a log whole."""
    found = []
    size = log.stat().st_size
    with log.open("rb") as file:
        place = SECTOR
        while place + SECTOR <= size:
            file.seek(place)
            sector, sectors, flags, _ = _ENTRY.unpack(file.read(_ENTRY.size))
            data = place + SECTOR
            # The kernel writes it through the disk's memory (FUA), which QEMU's NVMe does not tell.
            file.seek(data)
            if sectors and not flags and file.read(len(_COMMIT)) == _COMMIT:
                flags = _FUA
            write = Write(at=sector * SECTOR, size=sectors * SECTOR, data=data, flags=flags)
            # QEMU was killed while it wrote this one.
            if write.end > size or not (sectors or flags):
                break
            found.append(write)
            place = write.end
    return found


def flushed(writes: Sequence[Write], size: int) -> int:
    """Return how many writes there were when the log had this size, up to the last lasting one."""
    there = (number for number, write in enumerate(writes, 1) if write.end <= size)
    return max((number for number in there if _lasts(writes[number - 1])), default=0)


def cuts(writes: Sequence[Write], begin: int, *, most: int, seed: int) -> list[Cut]:
    """Choose moments from write `begin` on: what made something last, and others with a loss."""
    chance = random.Random(seed)
    lasting = [n for n in range(begin, len(writes) + 1) if n and _lasts(writes[n - 1])]
    after = {*_spread(lasting, most * 2 // 3)}
    others = [n for n in range(begin, len(writes) + 1) if n not in lasting]
    after |= {*chance.sample(others, min(len(others), most - len(after)))}
    found = []
    settled = begin
    for number in range(begin, len(writes) + 1):
        if number and writes[number - 1].flags & _FLUSH:
            settled = number
        if number in after:
            loose = [n for n in range(settled, number) if not _lasts(writes[n])]
            lost = frozenset(n for n in loose if number in others and chance.random() < 0.5)
            found.append(Cut(after=number, settled=settled, lost=lost))
    return found


def _lasts(write: Write) -> bool:
    """Whether it was on the disk for good when the machine was told so."""
    return bool(write.flags & (_FLUSH | _FUA))


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """Choose some, the first and the last among them."""
    last = min(len(numbers), most) - 1
    return [numbers[round(at * (len(numbers) - 1) / last)] for at in range(last + 1)]


class Disk:
    """A copy of a disk that is brought to one moment after another, forward only."""

    def __init__(self, path: Path, base: Path, log: Path, writes: Sequence[Write]) -> None:
        self.path = path
        self.log = log
        self.writes = writes
        self.done = 0
        copy(base, path)

    def as_cut(self, cut: Cut, target: Path) -> None:
        """Write the disk as a cut leaves it to another file."""
        self._apply(range(self.done, cut.settled), self.path)
        self.done = cut.settled
        copy(self.path, target)
        self._apply((n for n in range(self.done, cut.after) if n not in cut.lost), target)

    def _apply(self, numbers: Iterable[int], target: Path) -> None:
        with self.log.open("rb") as log, target.open("r+b") as disk:
            for number in numbers:
                write = self.writes[number]
                disk.seek(write.at)
                if write.flags & _DISCARD:
                    disk.write(bytes(write.size))
                elif write.size:
                    log.seek(write.data)
                    disk.write(log.read(write.size))


def copy(source: Path, target: Path) -> None:
    """Copy a disk, holes as holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def recovered(disk: Path, folder: Path, paths: Sequence[str]) -> Path:
    """Play the journal of an ext4 back, as a boot does, and return the paths' files in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    subprocess.run(["e2fsck", "-y", "-E", "journal_only", disk], capture_output=True, check=True)
    commands = ""
    for path in paths:
        target = folder / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        commands += f"rdump {path} {target.parent}\n"
    subprocess.run(
        ["debugfs", "-f", "-", disk], input=commands.encode(), capture_output=True, check=True
    )
    return folder
