"""Kernel parameters are set where they have the usual value, and put back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.machine.test_layout import with_generations

from clan.machine.parameters import set_all
from clan.machine.system import StepError

if TYPE_CHECKING:
    from pathlib import Path

    from clan.machine.layout import Layout


def sysctl(key: str, value: str, instead_of: str | None = None) -> dict[str, str | None]:
    return {"key": key, "value": value, "instead_of": instead_of}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    for name, value in {"all": "1", "default": "1", "eth0": "1", "eth0.5": "0"}.items():
        folder = tmp_path / "proc/sys/net/ipv6/conf" / name
        folder.mkdir(parents=True)
        (folder / "accept_ra").write_text(f"{value}\n")
    layout = with_generations(tmp_path, 1)
    assert layout.root == tmp_path
    return layout


def found(layout: Layout) -> dict[str, str]:
    conf = layout.root / "proc/sys/net/ipv6/conf"
    return {path.parent.name: path.read_text().strip() for path in conf.glob("*/accept_ra")}


USUAL = {"all": "1", "default": "1", "eth0": "1", "eth0.5": "0"}


def test_each_interface_that_has_the_usual_value_gets_it_and_gives_it_back(layout: Layout) -> None:
    wanted = [sysctl("net.ipv6.conf.*.accept_ra", "2", "1")]
    for _ in range(2):
        set_all(layout, wanted)
        assert found(layout) == {"all": "2", "default": "2", "eth0": "2", "eth0.5": "0"}
    set_all(layout, [*wanted, sysctl("net.ipv6.conf.eth0/5.accept_ra", "2")])
    assert found(layout)["eth0.5"] == "2"
    set_all(layout, wanted)
    assert found(layout)["eth0.5"] == "0"
    set_all(layout, [])
    assert found(layout) == USUAL


def test_what_somebody_else_set_since_stays(layout: Layout) -> None:
    set_all(layout, [sysctl("net.ipv6.conf.*.accept_ra", "2", "1")])
    (layout.root / "proc/sys/net/ipv6/conf/eth0/accept_ra").write_text("0\n")
    set_all(layout, [])
    assert found(layout) == {**USUAL, "eth0": "0"}


def test_one_that_the_kernel_has_not_is_told(layout: Layout) -> None:
    set_all(layout, [sysctl("net.*.nothing", "1")])
    with pytest.raises(StepError, match="this kernel has no parameter net"):
        set_all(layout, [sysctl("net.ipv6.conf.eth1.accept_ra", "1")])
