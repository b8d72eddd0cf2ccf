"""One side of a script that says bytes to bytes, fed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Side:
    """A side of the greeting, fed with bytes."""

    def __init__(self, script: Callable[[bytearray], Generator[bytes, None, Any]]) -> None:
        self.buffer = bytearray()
        self._script = script(self.buffer)
        self.result: Any = None
        self.done = False

    def hear(self, data: bytes) -> bytes:
        """Take in bytes, and return what it says."""
        self.buffer += data
        said = b""
        while not self.done:
            try:
                more = next(self._script)
            except StopIteration as end:
                self.result, self.done = end.value, True
                break
            if not more:
                break
            said += more
        return said
