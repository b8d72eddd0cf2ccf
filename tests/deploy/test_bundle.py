"""What is sent to a machine: one file, the same for the same generation, run by a bare Python."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest
from tests.plan.test_render import EVERYTHING, rendered

from clan.deploy.bundle import EPOCH, bundle, program
from clan.model.plan import Key

if TYPE_CHECKING:
    from pathlib import Path

PYTHONS = ("/usr/bin/python3",)
"""The system's own, which has nothing of ours: on Debian 12, 3.11."""


def test_the_same_generation_is_the_same_bytes() -> None:
    generation = rendered(motd=EVERYTHING)
    assert bundle(generation, token="t") == bundle(rendered(motd=EVERYTHING), token="t")
    assert bundle(generation, token="t") != bundle(generation, token="u")


def test_it_holds_the_generation_the_program_and_no_clock() -> None:
    generation = rendered(motd=EVERYTHING)
    with zipfile.ZipFile(io.BytesIO(bundle(generation, token="secret"))) as archive:
        names = archive.namelist()
        assert len(names) == len(set(names))
        assert {entry.date_time for entry in archive.infolist()} == {EPOCH}
        assert archive.read("token") == b"secret"
        for name, data in generation.files.items():
            assert archive.read(f"generation/{name}") == data
        assert set(program()) <= set(names)


@pytest.mark.parametrize("python", PYTHONS)
def test_a_bare_python_runs_it(tmp_path: Path, python: str) -> None:
    if not os.access(python, os.X_OK):
        pytest.skip(f"there is no {python}")
    sent = tmp_path / "sent"
    sent.write_bytes(bundle(rendered(motd=EVERYTHING), token="t"))
    done = subprocess.run(
        [python, "-I", sent, "status"],
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {"current", "confirmed", "generations"} <= set(json.loads(done.stdout))


def test_byte_code_of_another_python_is_passed_over(tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    with zipfile.ZipFile(sent, "w") as archive:
        for name, data in program().items():
            archive.writestr(name, b"\0\0\r\n" + data[4:] if name.endswith("c") else data)
    for python in PYTHONS:
        if os.access(python, os.X_OK):
            shown = subprocess.check_output(
                [python, "-I", sent, "status"], stdin=subprocess.DEVNULL
            )
            assert "current" in json.loads(shown)


def test_a_part_of_it_runs_not_at_all(tmp_path: Path) -> None:
    """The connection was cut while it was sent."""
    whole = bundle(rendered(motd=EVERYTHING), token="t")
    sent = tmp_path / "sent"
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        sent.write_bytes(whole[:length])
        done = subprocess.run(
            ["/usr/bin/python3", "-I", sent, "status"],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode != 0 or length == 0
        assert not done.stdout


def test_the_mesh_is_sent_to_its_members_alone() -> None:
    def names(*keys: Key) -> set[str]:
        archive = bundle(rendered(vpn=keys), token="t")
        with zipfile.ZipFile(io.BytesIO(archive)) as found:
            return {name for name in found.namelist() if name.startswith("clan/mesh/")}

    assert names() == set()
    assert names(Key(path="/etc/clan/keys/k/privatekey", kind="wireguard", generator="k")) == set()
    sent = names(Key(path="/etc/clan/keys/k/privatekey", kind="mesh", generator="k"))
    assert {"clan/mesh/__main__.py", "clan/mesh/chart/store.py"} <= sent
    assert len(bundle(mesh=True)) > len(bundle())


def test_what_runs_on_machines_is_the_oldest_python_s_language() -> None:
    sources = {name: data for name, data in program(mesh=True).items() if name.endswith(".py")}
    assert sources
    for name, data in sources.items():
        ast.parse(data, name, feature_version=(3, 11))
