"""Keys born on a machine: made once, kept beside their successors, chosen by generations."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from clan.deploy.bundle import bundle
from clan.machine import keys
from clan.machine.layout import Layout
from clan.machine.system import StepError
from clan.mesh import identity

if TYPE_CHECKING:
    from pathlib import Path

GENERATOR = "mesh-home"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Be a machine that was sent the program with the mesh's part."""
    program = tmp_path / "sent"
    program.write_bytes(bundle(mesh=True))
    monkeypatch.setattr(sys, "argv", [str(program), "keys"])
    return Layout(root=tmp_path / "root")


def test_an_identity_is_made_once_and_by_the_mesh_s_own_program(layout: Layout) -> None:
    public = keys.make_key(layout, GENERATOR, "mesh")
    assert keys.make_key(layout, GENERATOR, "mesh") == public
    (pair,) = (layout.own / "keys" / GENERATOR).glob("*.key")
    assert identity.text(identity.read(pair).public) == public
    assert not list(pair.parent.glob(".draft*"))


@pytest.mark.parametrize("kind", ["mesh", "wireguard"])
def test_a_new_pair_lies_beside_the_old_one_until_a_generation_names_it(
    layout: Layout, kind: str
) -> None:
    if kind == "wireguard" and shutil.which("wg") is None:
        pytest.skip("there is no wg")
    first = keys.make_key(layout, GENERATOR, kind)
    chosen = layout.own / "keys" / GENERATOR / "privatekey"
    wanted = {"path": str(chosen), "kind": kind, "generator": GENERATOR}
    wanted["path"] = f"/{chosen.relative_to(layout.root)}"
    keys.choose_keys(layout, {"keys": [{**wanted, "public": first}]})
    second = keys.make_key(layout, GENERATOR, kind, anew=True)
    assert second != first
    assert keys.make_key(layout, GENERATOR, kind) == first
    keys.choose_keys(layout, {"keys": [{**wanted, "public": second}]})
    assert keys.make_key(layout, GENERATOR, kind) == second
    keys.choose_keys(layout, {"keys": [{**wanted, "public": first}]})
    assert keys.make_key(layout, GENERATOR, kind) == first


def test_a_pair_that_is_not_here_is_refused(layout: Layout) -> None:
    key = {"path": "/etc/clan/keys/mesh-home/privatekey", "kind": "mesh", "generator": GENERATOR}
    with pytest.raises(StepError, match="does not have the private key of abc"):
        keys.choose_keys(layout, {"keys": [{**key, "public": "abc"}]})


def test_each_kind_names_its_package_and_others_are_not_known() -> None:
    assert keys.packages(["mesh", "wireguard", "mesh"]) == [
        "python3-cryptography",
        "wireguard-tools",
    ]
    with pytest.raises(StepError, match="keys of kind rot13 are not known"):
        keys.packages(["rot13"])
