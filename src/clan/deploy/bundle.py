"""One file that is sent to a machine: the program that runs there, and the generation as its data.

It is a Python zip archive (PEP 441) of the standard library's Python alone, the same on every
architecture, and byte for byte the same for the same generation from the same Python here. A
machine in a mesh gets `clan.mesh` besides; for all others it stays as small as it can be.

Beside each source lies its byte code for the Python that runs here (PEP 552, unchecked). A machine
with the same minor version starts the program faster by a third; another one finds that the magic
number is not its own and reads the source (zipimport does so by itself).
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import zipfile
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING

from clan.machine.static import FOLDER as STATIC

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from clan.plan.render import Generation

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip archive can hold."""
MAIN = b"from clan.machine.__main__ import main\n\nmain()\n"
MAIN_WITH_MESH = b"""\
import sys

if sys.argv[1:2] == ["mesh"]:
    from clan.mesh.__main__ import main

    main(sys.argv[2:])
else:
    from clan.machine.__main__ import main

    main()
"""
"""Chooses, as `clan.machine` must not import `clan.mesh`."""
PREFIX = "generation/"
MESH = "mesh"
"""The kind of key by which a machine is in a mesh."""


def bundle(
    generation: Generation | None = None,
    *,
    token: str = "",
    former: str = "",
    static: Mapping[str, bytes] = MappingProxyType({}),
    mesh: bool = False,
) -> bytes:
    """Return the archive; without a generation it is the program alone, as `install` needs it.

    The mesh's part comes with a generation that has an identity there, or if asked for. `token` is
    what will have to be shown to confirm it; an activation that `former` began has lost whoever
    began it, and gives way. `static` are programs for the machine's architecture, as NAME-VERSION.
    """
    if generation is not None:
        mesh = any(key["kind"] == MESH for key in generation.manifest["keys"])
    own = _program_alone(mesh=mesh)
    if generation is None:
        return own
    files = {"token": token.encode(), "former": former.encode()}
    files |= {PREFIX + name: data for name, data in generation.files.items()}
    files |= {f"{STATIC}/{name}": data for name, data in static.items()}
    return _archive(files, own)


@cache
def program(*, mesh: bool = False) -> Mapping[str, bytes]:
    """Return the files of the program that runs on machines, with the mesh's part or without."""
    main = MAIN_WITH_MESH if mesh else MAIN
    sources = {"__main__.py": main, "clan/__init__.py": b""}
    for part in ("machine", "mesh") if mesh else ("machine",):
        sources |= _python(resources.files(f"clan.{part}"), f"clan/{part}/")
    return sources | {f"{name}c": _byte_code(name, text) for name, text in sources.items()}


def _python(folder: Traversable, prefix: str) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            files |= _python(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".py"):
            files[prefix + entry.name] = entry.read_bytes()
    return files


def _byte_code(name: str, source: bytes) -> bytes:
    """Return a `.pyc` file: magic number, flags, the source's hash, the code (PEP 552)."""
    unchecked = (1).to_bytes(4, "little")
    code = compile(source, name, "exec", dont_inherit=True)
    digest = importlib.util.source_hash(source)
    return importlib.util.MAGIC_NUMBER + unchecked + digest + marshal.dumps(code)


@cache
def _program_alone(*, mesh: bool) -> bytes:
    return _archive(program(mesh=mesh))


def _archive(files: Mapping[str, bytes], before: bytes = b"") -> bytes:
    """Return an archive of the files, after those of the archive `before`."""
    buffer = io.BytesIO(before)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()
