"""What this admin has under way on machines, so that an update that died can begin anew at once.

An activation has its machine for itself until it is confirmed or undone, which its token proves.
The token is kept here while that lasts, in a file of this user alone, locked by whoever is at it.
Who finds one that nobody holds died before it was done: the next update shows it, and takes
over. Another admin does not have it, and waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(slots=True, kw_only=True)
class Lease:
    """A machine that is being switched: `former` is the token of a switch that died, or empty.

    `over` is whether it is known how the switch ended.
    """

    former: str = ""
    over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """The tokens of one clan's machines, in files under `folder`."""

    folder: Path

    @classmethod
    def of(cls, state: Path, clan: Path) -> Leases:
        """Return those of the clan in folder `clan`, under the user's state folder."""
        name = hashlib.sha256(os.fsencode(clan.resolve())).hexdigest()[:16]
        return cls(folder=state / "updates" / name)

    @contextlib.contextmanager
    def lease(self, machine: str, token: str) -> Iterator[Lease]:
        """Keep the token while a machine is switched, and after that unless it is over.

        While another of this user is at the machine it is kept nowhere, and the machine refuses
        the second. So it is where the folder cannot be written.
        """
        lease = Lease()
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                descriptor = os.open(self.folder / machine, flags, 0o600)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield lease
                return
            lease.former = os.pread(descriptor, 1 << 10, 0).decode("ascii", "replace").strip()
            # Both of one length: no moment in which it holds neither.
            os.pwrite(descriptor, token.encode("ascii"), 0)
            try:
                yield lease
            finally:
                if lease.over:
                    os.ftruncate(descriptor, 0)
