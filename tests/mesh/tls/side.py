"""One side of a script that says bytes to bytes, fed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


class Side:
    """A side of the greeting, fed with bytes."""

    def __init__(self, script: Generator[bytes, bytearray, Any]) -> None:
        self._script = script
        self.buffer = bytearray()
        self.result: Any = None
        self.said = next(script)

    def hear(self, data: bytes) -> bytes:
        """Take in bytes, and return what it says."""
        self.buffer += data
        said, self.said = self.said, b""
        while self.result is None:
            try:
                more = self._script.send(self.buffer)
            except StopIteration as end:
                self.result = end.value
                break
            if not more:
                break
            said += more
        return said
