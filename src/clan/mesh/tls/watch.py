"""Says when files of a folder were replaced, by the kernel's inotify(7), which Python lacks."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MOVED_TO, _CLOSE_WRITE, _CREATE = 0x80, 0x8, 0x100
_EVENT = struct.Struct("iIII")
_READ = 65536


class Watch:
    """Watches one folder. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        path = os.fsencode(folder)
        kinds = _MOVED_TO | _CLOSE_WRITE | _CREATE
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, path, kinds) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._descriptor

    def close(self) -> None:
        """Watch no more."""
        os.close(self._descriptor)

    def names(self) -> set[str]:
        """Return the names of the files that were written or put there; "" if some are unknown."""
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return set()
        found = set()
        while data:
            _, _, _, size = _EVENT.unpack_from(data)
            name = data[_EVENT.size : _EVENT.size + size].rstrip(b"\0")
            found.add(os.fsdecode(name))
            data = data[_EVENT.size + size :]
        return found
