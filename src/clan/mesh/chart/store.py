"""The maps that a machine holds, on its disk.

    FOLDER/map          what is held now: one map, or the branches of a fork
    FOLDER/map.before   what was held before that, for a disk that lost the newer one
    FOLDER/lock         held while a map is taken in

Each is replaced in one moment, so a kill or a power cut leaves the old or the new one. They hold
the clan's discovery secrets, so root alone reads them. What is read is verified again, in full.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from clan.machine.layout import sync, write
from clan.mesh.chart import chart as charts
from clan.mesh.chart.accept import MOST_MAPS, Held, Outcome, Verdict, accept
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clan.mesh.chart.chart import Chart

MAGIC = b"clan maps held 1\n"


class Store:
    """A machine's maps in a folder; `first_root` is the key that its clan began with."""

    def __init__(self, folder: Path, first_root: bytes) -> None:
        self._folder = folder
        self._first_root = first_root

    def held(self) -> Held:
        """Return what is held; nothing if no map was ever taken.

        Raises MeshError if all that is on the disk is damaged.
        """
        fault: MeshError | None = None
        for name in ("map", "map.before"):
            with contextlib.suppress(FileNotFoundError):
                data = (self._folder / name).read_bytes()
                try:
                    return self._read(data)
                except MeshError as found:
                    fault = fault or found
        if fault is None:
            return Held.of()
        raise MeshError(
            f"{self._folder}/map is damaged ({fault}): remove it, and give this machine the map "
            "with `clan machines update`"
        )

    def offer(self, data: bytes) -> Verdict:
        """Take in a map if it is to be had; what is held then is on the disk when this returns.

        Raises MeshError, if what is on the disk is damaged. An offer that is no map is refused.
        """
        with self._locked():
            held = self.held()
            try:
                offered = charts.read(data, self._first_root, held.top)
            except MeshError as fault:
                return Verdict(outcome=Outcome.REFUSED, reason=str(fault), held=held)
            verdict = accept(held, offered)
            if verdict.held is not held:
                self._write(verdict.held)
            return verdict

    def _read(self, data: bytes) -> Held:
        if not data.startswith(MAGIC):
            raise MeshError("it does not begin as such a file does")
        rest = data[len(MAGIC) :]
        maps: list[Chart] = []
        while rest:
            size, rest = int.from_bytes(rest[:8], "big"), rest[8:]
            if not 0 < size <= len(rest) or len(maps) == MOST_MAPS:
                raise MeshError("it is not whole")
            known = maps[0] if maps else None
            maps.append(charts.read(rest[:size], self._first_root, known))
            rest = rest[size:]
        if not maps or len({each.epoch for each in maps}) > 1:
            raise MeshError("it has maps that are not held together")
        return Held.of(maps)

    def _write(self, held: Held) -> None:
        path, before = self._folder / "map", self._folder / "map.before"
        draft = self._folder / ".map.before.new"
        draft.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.link(path, draft)
            draft.replace(before)
            sync(self._folder)
        parts = [len(each.raw).to_bytes(8, "big") + each.raw for each in held.maps]
        write(path, MAGIC + b"".join(parts), 0o600)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
