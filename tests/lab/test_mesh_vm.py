"""The mesh over the kernel's WireGuard, in a virtual machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.lab import vm

import clan
from clan.lab import image
from clan.mesh import clock

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
NOTED = 300_000_000
"""What time it was when the machine was on last: in 1979, later by less than can be believed."""


@pytest.fixture(scope="module")
def saw(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the program saw in the virtual machine."""
    del lab_ready
    scratch = tmp_path_factory.mktemp("vm")
    files = {
        "mesh.py": (HERE / "programs/mesh.py").read_bytes(),
        "opt/spaces.py": (HERE / "spaces.py").read_bytes(),
    }
    noted = {"boot": "the one before", "seconds": NOTED}
    files[f"opt/noted/{clock.FILE}"] = json.dumps(noted, separators=(",", ":")).encode()
    top = Path(clan.__file__).parent
    for package in ("machine", "mesh"):
        for file in (top / package).rglob("*.py"):
            files[f"opt/clan/{file.relative_to(top)}"] = file.read_bytes()
    tools = sorted((image.find().repository / "pool").glob("wireguard-tools_*.deb"))
    try:
        console = vm.run(
            "PYTHONPATH=/opt python3 /mesh.py", files, tools, scratch, "1970-01-02T00:00:00"
        )
    except vm.NoVmError as missing:
        pytest.skip(str(missing))
    lines = [line for line in console.splitlines() if line.startswith("SAW ")]
    assert lines, console[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("SAW "))
    return found


def test_the_kernels_interface_is_what_it_was_told_to_be(saw: dict[str, Any]) -> None:
    assert saw["kind"] == ["wireguard"]
    assert saw["addresses"] == ["fe80::1:0"]
    assert saw["device"] == [51000, 7, True]
    assert saw["peer"] == [True, ["fdcc::2/128", "fe80::2:0/128"], True, True]
    assert saw["wg"] == "51000"


def test_both_links_are_probed_and_a_path_is_switched_without_a_loss(saw: dict[str, Any]) -> None:
    assert saw["answered"] == [True, True]
    answers, lost = saw["lost"]
    assert answers > 20
    assert lost == 0


def test_a_peer_that_is_made_anew_shakes_hands_at_once(saw: dict[str, Any]) -> None:
    assert saw["anew"] == [True, True]


def test_what_does_not_fit_into_one_message_comes_in_several(saw: dict[str, Any]) -> None:
    assert saw["many"] == [1 + 499 + 1, 1000]


def test_it_is_taken_up_again_and_another_ones_is_refused(saw: dict[str, Any]) -> None:
    assert saw["kept"] == [True, False, "EEXIST", "EADDRINUSE", ["clan1"]]


def test_a_clock_that_stands_at_1970_goes_on_where_it_was_at_each_boot_once(
    saw: dict[str, Any],
) -> None:
    before, after, again = saw["boot"]
    assert before < 10 * 86400
    assert NOTED + clock.EVERY <= after < NOTED + clock.EVERY + 600
    assert again < 10 * 86400


def test_who_was_in_2099_is_heard_again_when_its_old_session_is_over(saw: dict[str, Any]) -> None:
    """WireGuard refuses a handshake older than the last; nobody is told, and it is made anew."""
    assert saw["clock"] == [True, False, True]
