"""Power that is cut so that unsynced writes are lost, and clocks that are wrong: under QEMU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.lab import vm
from tests.lab.box import NAME, Box
from tests.lab.office import Wish, service

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

STAGES = ("switching", "waiting", "confirmed")
MOMENTS = {
    "as it is laid down": "test -e /var/lib/clan/generations/.incoming",
    "as it switches": "grep -q switching /run/clan/activation.json",
    "soon after that": "grep -q switching /run/clan/activation.json && sleep 0.3",
    "while it waits": "grep -q waiting /run/clan/activation.json",
    "as it is confirmed": "grep -q confirmed /run/clan/activation.json",
}
"""When the power goes: a command that succeeds on the machine from then on."""


def wish(version: str) -> Wish:
    """Want a file, a unit and a name, in a version."""
    unit = service(f"echo {version} && exec sleep infinity")
    return Wish(
        files={"/etc/story/text": f"{version}\n"},
        units={"story-main.service": unit},
        hosts={f"{version}.story": "10.99.99.99"},
    )


@pytest.fixture(scope="module")
def box(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    del lab_ready
    try:
        made = Box(tmp_path_factory.mktemp("box"))
    except vm.NoVmError as missing:
        pytest.skip(str(missing))
    try:
        made.boot()
        made.wants(wish("first"))
        (outcome,) = made.clan("machines", "install", NAME)
        assert outcome["state"] == "updated", outcome
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("moment", MOMENTS)
def test_power_is_cut(box: Box, moment: str) -> None:
    """It boots what was confirmed before or what was new, whole, and `status` says which."""
    old, new = box.text(), moment.replace(" ", "-")
    box.wants(wish(new))
    with box.watch(MOMENTS[moment]) as come:
        update = box.begin("machines", "update", NAME, "--confirm-timeout", "60")
        come()
    box.cut_power()
    update.terminate()
    update.communicate()
    box.boot()
    found = box.settles()
    assert box.text() in {old, new}
    assert found["state"] == ("up to date" if box.text() == new else "behind")


@pytest.mark.parametrize("clock", ["2025-11-02T03:04:05", "2027-12-02T03:04:05"])
def test_the_clock_is_a_year_off(box: Box, clock: str) -> None:
    """It is updated and confirmed as ever; what is not confirmed goes back when it is due."""
    box.cut_power()
    box.boot(clock)
    # systemd raises a clock that is older than itself.
    assert box.ssh(f"date -s {clock}").returncode == 0
    assert box.ssh("date +%Y").stdout.strip() == clock[:4]
    new = f"in-{clock[:4]}"
    box.wants(wish(new))
    (outcome,) = box.clan("machines", "update", NAME)
    assert outcome["state"] == "updated", outcome
    assert box.settles()["state"] == "up to date"
    # The clock is set right while the admin's computer has died and the machine waits.
    box.wants(wish("never-confirmed"))
    with box.watch("grep -q waiting /run/clan/activation.json") as come:
        update = box.begin("machines", "update", NAME, "--confirm-timeout", "25")
        come()
    update.kill()
    update.communicate()
    assert box.ssh(f"date -s @{time.time():.0f}").returncode == 0
    still = box.ssh("cat /run/clan/activation.json").stdout
    if '"waiting"' in still:  # or the admin was quicker
        assert box.text() == "never-confirmed"
    found = box.settles()
    assert box.text() in {new, "never-confirmed"}, found
