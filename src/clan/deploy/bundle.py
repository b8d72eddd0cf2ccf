"""One file that is sent to a machine: the program that runs there, and the generation as its data.

It is a Python zip archive (PEP 441) of the standard library's Python alone, the same on every
architecture, and byte for byte the same for the same generation.
"""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from clan.machine.layout import PROGRAM
from clan.machine.static import FOLDER as STATIC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from clan.plan.render import Generation

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip archive can hold."""
MAIN = b"from clan.machine.__main__ import main\n\nmain()\n"
PREFIX = "generation/"


def bundle(
    generation: Generation | None = None,
    *,
    token: str = "",
    static: Mapping[str, bytes] = MappingProxyType({}),
) -> bytes:
    """Return the archive; without a generation it is the program alone, as `install` needs it.

    `token` is what will have to be shown to confirm it; `static` are programs for the machine's
    architecture, as NAME-VERSION.
    """
    own = program()
    files = {**own, PREFIX + PROGRAM: _archive(own)}
    if generation is not None:
        files["token"] = token.encode()
        files |= {PREFIX + name: data for name, data in generation.files.items()}
    files |= {f"{STATIC}/{name}": data for name, data in static.items()}
    return _archive(files)


@cache
def program() -> Mapping[str, bytes]:
    """Return the files of the program that runs on machines."""
    own = resources.files("clan.machine")
    return {"__main__.py": MAIN, "clan/__init__.py": b"", **_python(own, "clan/machine/")}


def _python(folder: Traversable, prefix: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            files |= _python(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            files[prefix + entry.name] = entry.read_bytes()
    return files


def _archive(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()
