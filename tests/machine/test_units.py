from __future__ import annotations

import pytest

from clan.machine.services import PASSING
from clan.machine.units import _is_bad


@pytest.mark.parametrize(
    ("kind", "active", "sub", "bad"),
    [
        ("simple", "active", "running", False),
        ("oneshot", "active", "exited", False),
        ("oneshot", "inactive", "dead", False),
        ("simple", "inactive", "dead", True),
        ("simple", "failed", "failed", True),
        ("oneshot", "failed", "failed", True),
        ("simple", "activating", "auto-restart", True),
        ("simple", "activating", "auto-restart-queued", True),
        ("notify", "activating", "start", False),
        ("simple", "reloading", "reload", False),
        ("simple", "deactivating", "stop", True),
        ("", "active", "waiting", False),
    ],
)
def test_a_unit_is_as_it_should_be(kind: str, active: str, sub: str, bad: bool) -> None:
    assert _is_bad({"Type": kind, "ActiveState": active, "SubState": sub}) == bad


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("ssh.service", False),
        ("ssh@3-10.0.0.1:22.service", True),
        ("user@0.service", True),
        ("getty@tty1.service", True),
        ("serial-getty@ttyS0.service", True),
        ("systemd-networkd.service", False),
        ("wg-quick@wg0.service", False),
        ("clan-activate-3.service", True),
        ("run-r1234.service", True),
        ("userdb.service", False),
    ],
)
def test_services_that_come_and_go_are_left_alone(name: str, passing: bool) -> None:
    assert bool(PASSING.match(name)) == passing
