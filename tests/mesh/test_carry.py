"""What an admin and a machine tell each other: by the machine's own program, and as bytes."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh import signers

from clan.deploy.bundle import bundle
from clan.mesh import identity
from clan.mesh.__main__ import main
from clan.mesh.agent import setting
from clan.mesh.chart.carry import Told, packed, read_told, unpacked
from clan.mesh.chart.store import Store
from clan.mesh.errors import MeshError
from clan.mesh.places import setting_file
from clan.mesh.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = st.binary(min_size=32, max_size=32)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return the disk of a machine that is in the mesh `home`."""
    place = tmp_path / setting_file("home").lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_bytes(setting.told(signers.ROOT.public, "/id"))
    assert setting.read("home", tmp_path).identity == tmp_path / "id"
    return tmp_path


@pytest.fixture
def run(
    disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run the machine's own program there, and return what it says."""

    def ran(*words: str, stdin: bytes = b"") -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with contextlib.suppress(SystemExit):
            main(["--root", str(disk), *words])
        said = capsys.readouterr()
        return said.out + said.err

    return ran


def test_a_machine_takes_maps_and_tells_of_what_it_has(disk: Path, run: Callable[..., str]) -> None:
    first = signers.signed(signers.content("nas"))
    second = signers.signed(signers.content("nas", "laptop"), after=[first])
    said = json.loads(run("take", "home", stdin=packed([second.raw, first.raw])))
    assert [each["outcome"] for each in said] == ["newer", "older"]
    place = setting.read("home", disk).state
    records, nas = Records(place / "records"), signers.key("nas").public
    records.take(nas, signers.record("nas"))
    records.keep([nas])
    told = read_told(run("tell", "home").encode())
    assert told == Told(
        held=frozenset({second.hash.hex()}),
        maps=(second.raw,),
        records={nas: signers.record("nas")},
    )
    again = read_told(run("tell", "home", second.hash.hex()).encode())
    assert (again.held, again.maps) == (told.held, ())
    assert place.stat().st_mode & 0o077 == 0
    assert (place / "map").stat().st_mode & 0o077 == 0


def test_what_is_no_map_is_refused_and_changes_nothing(disk: Path, run: Callable[..., str]) -> None:
    assert json.loads(run("take", "home", stdin=packed([b"hello"])))[0]["outcome"] == "refused"
    assert "is not whole" in run("take", "home", stdin=b"hello")
    assert Store(setting.read("home", disk).state, signers.ROOT.public).held().top is None


def test_a_machine_that_is_in_no_such_mesh_says_so(run: Callable[..., str]) -> None:
    assert "this machine is in no mesh 'office'" in run("tell", "office")


@given(
    st.sets(KEYS.map(bytes.hex), max_size=16),
    st.lists(st.binary(min_size=1, max_size=99), max_size=16),
    st.dictionaries(KEYS, st.binary(min_size=1, max_size=99), max_size=9),
)
def test_what_is_told_is_heard(
    held: set[str], maps: list[bytes], records: dict[bytes, bytes]
) -> None:
    told = Told(held=frozenset(held), maps=tuple(maps), records=records)
    assert read_told(json.dumps(told.to_json()).encode()) == told
    assert unpacked(packed(maps)) == maps


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.binary(max_size=60) | st.fixed_dictionaries({"held": JSON, "maps": JSON, "records": JSON})
)
def test_what_nobody_can_have_said_is_refused(said: object) -> None:
    data = said if isinstance(said, bytes) else json.dumps(said).encode()
    for read in (read_told, unpacked):
        try:
            read(data)
        except MeshError:
            continue


@pytest.mark.parametrize("python", ["/usr/bin/python3", sys.executable])
def test_the_sent_program_has_the_mesh_in_it(tmp_path: Path, python: str) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(bundle(mesh=True))
    has = subprocess.run([python, "-c", "import cryptography"], capture_output=True, check=False)
    if has.returncode:
        pytest.skip(f"{python} has no cryptography")
    born = [python, "-I", str(sent), "mesh", "born", str(tmp_path / "id")]
    public = subprocess.check_output(born, cwd=tmp_path, env={}, text=True)
    assert subprocess.check_output(born, cwd=tmp_path, env={}, text=True) == public
    assert identity.text(identity.read(tmp_path / "id").public) == public.strip()
    (tmp_path / "id").chmod(0o644)
    done = subprocess.run(born, cwd=tmp_path, env={}, text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path}/id: this private key can be read by others; chmod 600 {tmp_path}/id\n"
    )
