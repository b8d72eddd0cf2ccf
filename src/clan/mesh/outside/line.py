"""A process beside the agent listens to it, and tells it what was found: `Line`.

The agent may be restarted at any moment: then its socket is looked for until it is there again, and
what was found is told anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.outside import seam

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_AGAIN = 1.0
"""Seconds until an agent that is not there is looked for again."""


class Line:
    """The line to the agent. `found` gives what is to be told; `take` is given what is wanted."""

    def __init__(
        self, path: Path, name: str, found: Callable[[], bytes], take: Callable[[bytes], None]
    ) -> None:
        self._path = path
        self._name = name
        self._found = found
        self._take = take
        self._writer: asyncio.StreamWriter | None = None

    def tell(self) -> None:
        """Tell the agent what is found now, if it is there."""
        if self._writer is not None:
            self._writer.write(self._found())

    async def listen(self, say: Callable[[str], None]) -> None:
        """Listen to the agent for ever."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=seam.LONGEST)
                self._writer = writer
                try:
                    writer.write(seam.who(self._name))
                    self.tell()
                    while (line := await reader.readline()).endswith(b"\n"):
                        self._take(line)
                except (MeshError, ValueError) as fault:
                    say(f"the agent is of another version: {fault}")
                finally:
                    self._writer = None
                    writer.close()
            await asyncio.sleep(_AGAIN)
