"""Generators that are scripts, run in bubblewrap: no network, of this computer only programs.

Everything that goes in or comes out stays in memory: inputs are handed over as memory
that bwrap copies into a tmpfs of its own, and outputs come back as a tar stream.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError, MissingProgramError
from clan.vars.names import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.generator import Inputs, Script

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin"
# What programs need to run; the rest of this computer is not there.
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ssl/openssl.cnf",
)
_RUN = """\
set -eu
bash -euo pipefail /run/script >&2
exec tar -C /run/out -cf - .
"""
_LAST_LINES = 8


def run_script(script: Script, inputs: Inputs, *, what: str) -> dict[str, bytes]:
    """Run a script on its inputs and return the files that it wrote.

    Raises MissingProgramError without bubblewrap or a program of the script's, ClanError when it
    fails: with what it wrote to standard error, which no script should put a secret into.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise MissingProgramError(
            f"{what} is a script, which runs in bubblewrap: `bwrap` is not installed",
            hint="install the package bubblewrap",
        )
    for program in ("bash", "tar", *script.programs):
        if shutil.which(program, path=_PATH) is None:
            raise MissingProgramError(f"{what} needs the program {program!r}, which is not here")
    with ExitStack() as stack:
        fds: list[int] = []
        arguments = [bwrap, *_confinement()]
        for path, data in _files(script, inputs):
            fd = _in_memory(data)
            stack.callback(os.close, fd)
            fds.append(fd)
            arguments += ["--perms", "0400", "--file", str(fd), path]
        done = subprocess.run(
            [*arguments, "--", "bash", "-c", _RUN],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=fds,
        )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        raise ClanError("\n  ".join([f"{what}: the script failed", *said]))
    return _outputs(done.stdout, what)


def _confinement() -> Iterator[str]:
    yield from ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv")
    for place in _SYSTEM:
        yield from ("--ro-bind-try", place, place)
    yield from ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run")  # noqa: S108
    # The tmpfs over /run hides what was bound below it.
    yield from ("--ro-bind-try", "/run/current-system", "/run/current-system")
    for folder in ("in", "out", "prompts"):
        yield from ("--dir", f"/run/{folder}", "--setenv", folder, f"/run/{folder}")
    yield from ("--setenv", "PATH", _PATH, "--setenv", "HOME", "/tmp")  # noqa: S108
    yield from ("--setenv", "LC_ALL", "C.UTF-8", "--chdir", "/tmp")  # noqa: S108


def _files(script: Script, inputs: Inputs) -> Iterator[tuple[str, bytes]]:
    yield "/run/script", script.text.encode()
    for name, answer in inputs.prompts.items():
        yield f"/run/prompts/{name}", answer.encode()
    for generator, files in inputs.files.items():
        for name, data in files.items():
            yield f"/run/in/{generator}/{name}", data


def _in_memory(data: bytes) -> int:
    """Return a descriptor to read the data from, with no file behind it."""
    if not hasattr(os, "memfd_create"):
        raise MissingProgramError("generators that are scripts run on Linux only")
    fd = os.memfd_create("clan", 0)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _outputs(stream: bytes, what: str) -> dict[str, bytes]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r:") as archive:
        for member in archive:
            name = Path(member.name).as_posix()
            if name == ".":
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None or not is_plain(name):
                raise ClanError(f"{what}: the script made {name!r}, which is no plain file in $out")
            found[name] = file.read()
    return found
