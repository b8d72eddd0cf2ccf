"""Static programs: built once for an architecture, kept by what is pinned, checked by hash."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from clan import static
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


@pytest.mark.parametrize("name", TABLE)
def test_what_a_program_needs_is_pinned(name: str) -> None:
    needed = re.findall(r"(?m)^\t(\S+ v\S+)", (MODULES / name / "go.mod").read_text())
    assert needed
    pinned = (MODULES / name / "go.sum").read_text()
    assert [each for each in needed if f"{each}/go.mod h1:" not in pinned] == []


def test_another_source_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "MODULES", tmp_path)
    shutil.copytree(MODULES / NAME, tmp_path / NAME)
    version = static.version.__wrapped__
    before = version(NAME)
    assert before == static.version(NAME)
    for file, is_other in {"main_test.go": False, "notes": False, "more.go": True}.items():
        (tmp_path / NAME / file).write_text("package main\n")
        assert (version(NAME) != before) is is_other
    for file in ("go.mod", "go.sum", "main.go"):
        before = version(NAME)
        with (tmp_path / NAME / file).open("a") as source:
            source.write("\n")
        assert version(NAME) != before


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("command", ["gofmt -l .", "go vet .", "go test ."])
def test_what_go_says_of_it(name: str, command: str) -> None:
    module = MODULES / name
    go = build._toolchain(module)
    if go is None:
        pytest.skip("this computer has no Go toolchain that is new enough")
    set_ = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    home = pwd.getpwuid(os.getuid()).pw_dir  # where Go keeps modules
    environment = {**os.environ, **set_, "GOPROXY": "off", "HOME": home}

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=module, env=environment, capture_output=True, text=True, check=False
        )

    if run([go, "list", "-deps", "-test", "."]).returncode:
        pytest.skip("its modules are not on this computer: scripts/setup fetches them")
    done = run(command.split())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    if command.startswith("gofmt"):
        assert done.stdout == ""


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
