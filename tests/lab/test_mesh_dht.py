"""Two machines that nobody introduces find each other in a DHT, and nobody can follow them there.

The DHT is libtorrent's, with nodes of our own alone.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.beside import beside
from tests.lab.gateways import Gateway
from tests.lab.links import until
from tests.lab.spaces import Space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

PYTHON = "/usr/bin/python3"
NODES = [f"203.0.{number}.1" for number in range(120, 128)]
FIRST = f"{NODES[0]}:6881"
PROGRAM = Path(__file__).parent / "programs" / "dht.py"


@pytest.fixture
def dht(town: Town) -> Iterator[None]:
    """A DHT of eight nodes."""
    has = subprocess.run([PYTHON, "-c", "import libtorrent, cryptography"], check=False)
    if has.returncode:
        pytest.skip(f"{PYTHON} has no libtorrent (scripts/setup installs it)")
    space = Space()
    try:
        at = town.internet.attach(space, "eth0")
        for each in NODES:
            space.run(f"ip addr add {each}/32 dev eth0")
            town.internet.space.run(f"ip route add {each}/32 via {at}")
        with space.inside():
            words = [PYTHON, str(PROGRAM), *NODES]
            process = subprocess.Popen(words, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()
            process.communicate()
    finally:
        space.remove()


def talks(one: Box, other: Box, seconds: float) -> bool:
    talk = Talk(one, other)
    end = time.monotonic() + seconds
    try:
        while not talk.answered and time.monotonic() < end:
            talk.go(0.2)
        return bool(talk.answered)
    finally:
        talk.close()


def test_two_whom_nobody_introduces_find_each_other(town: Town, dht: None, tmp_path: Path) -> None:
    del dht
    desk, laptop = boxes = town.boxes("desk", "laptop")
    homes = [town.home("random"), town.home("random")]
    for home, each in zip(homes, boxes, strict=True):
        home.plug(each)
    gateway = Gateway(homes[0], tmp_path / "router")
    with contextlib.ExitStack() as running:
        running.callback(gateway.remove)
        meet(boxes)
        assert not talks(laptop, desk, 5)
        running.enter_context(beside(desk, "doors"))
        for each in boxes:
            running.enter_context(beside(each, "dht", FIRST, python=PYTHON))
        until(lambda: [e for e in desk.ask()["interfaces"] if e["mapped"]], 30)
        assert talks(laptop, desk, 90)
        path = lives(laptop, desk)
        assert (path["kind"], path["endpoint"].partition(":")[0]) == ("internet", homes[0].address)
