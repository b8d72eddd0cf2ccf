"""What an admin and a machine tell each other: by the machine's own program, and as bytes."""

from __future__ import annotations

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
from clan.machine.layout import Layout
from clan.mesh import __main__ as program
from clan.mesh import identity
from clan.mesh.chart.carry import Told, packed, read_told, unpacked
from clan.mesh.chart.records import Records
from clan.mesh.chart.store import Store
from clan.mesh.errors import MeshError
from clan.mesh.member import Member, folder, member, told_at

if TYPE_CHECKING:
    from pathlib import Path

KEYS = st.binary(min_size=32, max_size=32)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Be a machine that is in the mesh `home`."""
    found = Layout(root=tmp_path)
    monkeypatch.setattr(program, "LAYOUT", found)
    place = tmp_path / told_at("home").lstrip("/")
    place.parent.mkdir(parents=True)
    me = Member(
        instance="home",
        machine="nas",
        first_root=signers.ROOT.public,
        identity=tmp_path / "id",
    )
    place.write_text(json.dumps(me.to_json()))
    assert member("home", found) == me
    return found


def run(monkeypatch: pytest.MonkeyPatch, *words: str, stdin: bytes = b"") -> None:
    monkeypatch.setattr(sys, "argv", ["machine.pyz", "mesh", *words])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    program.main()


def test_a_machine_takes_maps_and_tells_of_what_it_has(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = signers.signed(signers.content("nas"))
    second = signers.signed(signers.content("nas", "laptop"), after=[first])
    run(monkeypatch, "take", "home", stdin=packed([second.raw, first.raw]))
    outcomes = [each["outcome"] for each in json.loads(capsys.readouterr().out)]
    assert outcomes == ["newer", "older"]
    Records(folder("home", layout)).offer(signers.key("nas").public, signers.record("nas"))
    run(monkeypatch, "tell", "home")
    told = read_told(capsys.readouterr().out.encode())
    assert told == Told(
        held=frozenset({second.hash.hex()}),
        maps=(second.raw,),
        records={signers.key("nas").public: signers.record("nas")},
    )
    run(monkeypatch, "tell", "home", second.hash.hex())
    again = read_told(capsys.readouterr().out.encode())
    assert (again.held, again.maps) == (told.held, ())
    place = folder("home", layout)
    assert place.stat().st_mode & 0o077 == 0
    assert (place / "map").stat().st_mode & 0o077 == 0


def test_what_is_no_map_is_refused_and_changes_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "take", "home", stdin=packed([b"hello"]))
    assert json.loads(capsys.readouterr().out)[0]["outcome"] == "refused"
    with pytest.raises(SystemExit):
        run(monkeypatch, "take", "home", stdin=b"hello")
    assert "is not whole" in capsys.readouterr().err
    assert Store(folder("home", layout), signers.ROOT.public).held().top is None


def test_a_machine_that_is_in_no_such_mesh_says_so(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert layout.own
    with pytest.raises(SystemExit):
        run(monkeypatch, "tell", "office")
    assert "this machine is in no mesh 'office'" in capsys.readouterr().err


def test_of_two_records_the_newer_is_kept_and_a_stranger_s_is_refused(tmp_path: Path) -> None:
    records, nas = Records(tmp_path), signers.key("nas").public
    assert records.offer(nas, signers.record("nas", 2))
    assert not records.offer(nas, signers.record("nas", 1))
    with pytest.raises(MeshError, match="may not sign"):
        records.offer(nas, signers.record("laptop", 3))
    (tmp_path / "records" / ("00" * 32)).write_bytes(b"damaged")
    (tmp_path / "records" / "notes.txt").write_text("x")
    assert records.all() == {nas: signers.record("nas", 2)}
    records.forget([])
    assert records.all() == {}


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
