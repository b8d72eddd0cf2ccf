"""Tailscale on the same machines, with Headscale: neither it nor the mesh is in the other's way."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import lives, meet
from tests.lab.links import until
from tests.lab.paths import goes_on, reach
from tests.lab.spaces import join

from bench.harness.row import LeftOutError
from bench.mesh.beside import Headscale, Member, program, talking

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.agents import Talk
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab


def test_the_mesh_and_tailscale_go_on_beside_each_other(town: Town, tmp_path: Path) -> None:
    """Whichever is there first, and though each marks packets and puts rules before the others'."""
    desk, laptop = boxes = town.boxes("desk", "laptop")
    join(desk.space, "eth0", laptop.space, "eth0")
    for host, each in enumerate(boxes, 1):
        each.space.run(f"ip addr add 192.0.2.{host}/24 dev eth0")
    with contextlib.ExitStack() as stack:
        try:
            server = Headscale(tmp_path / "headscale", stack)
        except LeftOutError as why:
            pytest.skip(str(why))
        server.plug(desk.space, laptop.space)
        server.start()
        meet(boxes)
        talk = reach(desk, laptop)
        stack.callback(talk.close)
        members = []
        for each in boxes:
            members.append(Member(each.name, tmp_path / "tailscale", each.space))
            stack.callback(members[-1].remove)
        server.join(*members)
        theirs = talking(*members)
        stack.callback(theirs.close)
        both_go_on(talk, theirs)
        until(lambda: lives(desk, laptop)["kind"] == "lan", 60)
        desk.crash()
        desk.start()
        both_go_on(talk, theirs)
        members[0].tell(str(program("tailscale")), f"--socket={members[0].folder}/socket", "down")
        goes_on(talk, 60)


def both_go_on(*talks: Talk) -> None:
    for each in talks:
        goes_on(each, 60)
