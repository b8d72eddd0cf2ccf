"""Static programs: built once for an architecture, kept by what is pinned, checked by hash."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from clan.errors import ClanError
from clan.lab.built import kept
from clan.static import MODULES, TABLE, build
from clan.static.build import Builds

if TYPE_CHECKING:
    from pathlib import Path

GO = """\
#!/bin/sh
if [ "$1" = version ]; then echo "go version go1.99.1 linux/amd64"; exit; fi
echo "$GOARCH$GOARM" >>"${0%/*}/calls"
[ "$CGO_ENABLED:$GOOS:$GOTOOLCHAIN" = 0:linux:local ] || exit 9
while [ "$1" != -o ]; do shift; done
LAST
"""
NAME = "wireguard-go"
MACHINES = {"x86_64": (2, 62), "aarch64": (2, 183), "armv7l": (1, 40)}
"""`uname -m` -> ELF's class (1 is 32 bits, 2 is 64) and e_machine (elf(5))."""


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Builds(folder=tmp_path / "static")


def go(folder: Path, last: str) -> None:
    """Put a toolchain on the PATH whose build ends with this command."""
    (folder / "go").write_text(GO.replace("LAST", last))
    (folder / "go").chmod(0o755)


def test_it_is_built_once_for_each_architecture(builds: Builds, tmp_path: Path) -> None:
    go(tmp_path, 'echo "for $GOARCH" >"$2"; chmod +x "$2"')
    said: list[str] = []
    for architecture, called in {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.items():
        assert builds.find(NAME, architecture) is None
        built = builds.build(NAME, architecture, said.append)
        assert built.read_text() == f"for {called}\n"
        assert builds.build(NAME, architecture, said.append) == built
        assert builds.find(NAME, architecture) == built
    assert (tmp_path / "calls").read_text().split() == ["amd64", "arm64", "arm7"]
    assert said == [f"building {NAME} for {each}" for each in MACHINES]


def test_one_that_is_not_what_was_built_is_built_again(builds: Builds, tmp_path: Path) -> None:
    go(tmp_path, 'echo built >"$2"')
    program = builds.build(NAME, "x86_64", print)
    program.write_text("another\n")
    assert builds.find(NAME, "x86_64") is None
    assert builds.build(NAME, "x86_64", print).read_text() == "built\n"


@pytest.mark.parametrize("architecture", ["x86_64", "vax"])
def test_what_cannot_be_built_leaves_nothing(
    builds: Builds, tmp_path: Path, architecture: str
) -> None:
    go(tmp_path, "echo no way to the module proxy >&2; exit 1")
    with pytest.raises(ClanError, match=r"no way to the module proxy|vax"):
        builds.build(NAME, architecture, print)
    assert builds.find(NAME, architecture) is None
    left = list(builds.folder.iterdir()) if builds.folder.exists() else []
    assert [path.name for path in left] in ([], [".lock"])


def test_a_toolchain_that_is_missing_or_too_old_is_not_used(builds: Builds, tmp_path: Path) -> None:
    module = MODULES / NAME
    go(tmp_path, "exit 1")
    assert build._toolchain(module) == str(tmp_path / "go")
    (tmp_path / "go").write_text(GO.replace("go1.99.1", "go1.19.8"))
    assert build._toolchain(module) is None
    (tmp_path / "go").unlink()
    assert build._toolchain(module) is None
    with pytest.raises(ClanError, match="no Go toolchain"):
        builds.build(NAME, "x86_64", print)


def test_every_program_is_pinned() -> None:
    for name, source in TABLE.items():
        pinned = (MODULES / name / "go.sum").read_text()
        assert f"{source.go} " in pinned
        assert f'import _ "{source.go}"' in (MODULES / name / "tools.go").read_text()


@pytest.mark.lab
@pytest.mark.parametrize("architecture", MACHINES)
@pytest.mark.parametrize("name", TABLE)
def test_what_is_built_is_a_static_program_of_the_architecture(
    name: str, architecture: str
) -> None:
    """For a NAS too, whose architecture is not this computer's."""
    try:
        program = kept().build(name, architecture, print, fetch=True)
    except ClanError as fault:
        pytest.skip(str(fault))
    head = program.read_bytes()[:4096]
    bits, machine = MACHINES[architecture]
    assert head[:5] == b"\x7fELF" + bytes([bits])
    assert struct.unpack_from("<H", head, 18) == (machine,)
    # No PT_INTERP (3) among the program headers: nothing of the machine's is loaded.
    offset, size, count = (
        (*struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54))
        if bits == 2
        else (*struct.unpack_from("<I", head, 28), *struct.unpack_from("<HH", head, 42))
    )
    kinds = [struct.unpack_from("<I", head, offset + size * n)[0] for n in range(count)]
    assert kinds
    assert 3 not in kinds
    emulator = shutil.which(f"qemu-{architecture}-static") or shutil.which(f"qemu-{architecture}")
    if emulator is not None:
        done = subprocess.run(
            [emulator, program, "--version"], capture_output=True, text=True, check=False
        )
        assert name in done.stdout + done.stderr
