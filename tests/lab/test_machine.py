from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clan.errors import LabError
from clan.lab.config import Machine
from clan.lab.machine import Unit, binds
from clan.lab.state import State

STATE = State(name="family")


def test_a_machine_has_its_cable_and_its_group_by_its_number() -> None:
    unit = Unit(name="a_long_name", number=12, machine=Machine(site="home"), state=STATE)
    assert unit.cable == "vb-m12"
    assert unit.group.path == "clan-lab-family/m12"
    assert unit.folder == Path("/var/lib/clan-lab/family/machines/a_long_name")


def test_programs_are_shared_read_only_and_the_clan_to_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "prefix", "/opt/clan")
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    options = binds(STATE, Path("/srv/a:b"), 12)
    assert {"--bind-ro=/opt/clan", "--bind-ro=/opt/python", "--bind=/srv/a\\:b"} <= set(options)
    assert "--bind=/var/lib/clan-lab/family/vars" in options
    assert not any(option.endswith("=/usr") for option in options)


def test_a_python_that_the_image_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "version_info", (3, 99, 0))
    with pytest.raises(LabError, match=r"machines with `clan = true` have Python 3\.11"):
        binds(STATE, Path("/srv/family"), 12)
