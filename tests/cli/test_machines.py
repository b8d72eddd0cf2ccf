"""`clan machines` before any machine is there: what can be said, and names with a slip."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

CLAN = """
[meta]
name = "family"
domain = "home.example"
[machines.nas]
[machines.laptop]
[instances.vpn]
module.name = "wireguard"
roles.controller.machines.nas.settings.endpoint = "192.0.2.1"
roles.peer.machines.laptop = {}
[instances.tor]
module.name = "tor"
roles.server.machines.nas = {}
"""


@pytest.fixture
def family(home: Path) -> Path:
    (home / "clan.toml").write_text(CLAN)
    return home


def test_a_plan_lists_what_is_due_before_anything_is_made(clan: Run, family: Path) -> None:
    assert family.is_dir()
    shown = clan("machines", "plan", "nas")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    due = [line.strip() for line in lines[lines.index("due") + 1 :]]
    found = dict(zip(due[::2], due[1::2], strict=True))
    assert found["? nas/wireguard-keys-vpn/publickey"] == "nas makes its key at its next update"
    assert "? shared/tor_tor_auth/client_key.pub" in found
    shape = json.loads(clan("machines", "plan", "nas", "--json").out)
    assert {f"? {var}": why for var, why in shape["due"].items()} == found


def test_a_plan_of_which_all_is_due_does_not_say_that_it_is_empty(clan: Run, home: Path) -> None:
    (home / "clan.toml").write_text(
        '[meta]\nname = "family"\n[machines.nas]\n[instances.tor.roles.server.machines.nas]\n'
    )
    shown = clan("machines", "plan", "nas").out
    assert shown.splitlines()[:2] == ["due", "  ? shared/tor_tor_auth/client_key.pub"]


def test_a_plan_of_which_nothing_is_due_says_so_to_programs(clan: Run, home: Path) -> None:
    (home / "clan.toml").write_text('[meta]\nname = "family"\n[machines.nas]\n')
    shown = clan("machines", "plan", "nas")
    assert shown.out == "nas needs nothing\n"
    assert json.loads(clan("machines", "plan", "nas", "--json").out)["due"] == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("machines update --accept-loss tr", "the clan has no network 'tr'"),
        ("machines update --accept-loss tr", "did you mean 'tor'?"),
        ("machines rollback nas --accept-loss vpm", "did you mean 'vpn'?"),
        ("machines update nsa", "did you mean 'nas'?"),
        ("machines update nsa.home.example", "did you mean 'nas'?"),
        ("machines update printer", "`clan machines list` shows its machines"),
        ("ssh nsa.home.example", "did you mean 'nas'?"),
    ],
)
def test_a_name_with_a_slip_is_answered_with_the_nearest(
    clan: Run, family: Path, line: str, said: str
) -> None:
    assert family.is_dir()
    refused = clan(*line.split())
    assert refused.code in {2, 255}
    assert said in refused.err
