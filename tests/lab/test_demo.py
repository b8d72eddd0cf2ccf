"""The demo tells its story on real machines, and each step is as it is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clan.lab import state

DEMO = Path(__file__).parents[2] / "examples/family/demo.py"

pytestmark = pytest.mark.lab


def test_the_family_is_reached_from_home_and_from_a_cafe(lab_ready: None) -> None:
    del lab_ready
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, DEMO, "--json"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    faults = [(step["command"], step["fault"], step["output"]) for step in told["steps"]]
    assert [fault for fault in faults if fault[1]] == []
    assert (done.returncode, done.stderr, told["as_told"]) == (0, "", True)
    assert told["seconds"] < 120
    logins = [step for step in told["steps"] if step["command"].startswith("clan ssh ")]
    met, cafe, cut, mended = logins
    assert met["output"].startswith("nas: over lan, ")
    assert met["output"].endswith("[yes/no] yes\nnas\n")
    assert cafe["output"].endswith(
        "internet won: the best of those that answered (lan did not)\nnas\n"
    )
    assert cut["status"] == 255
    assert re.search(
        r"^  lan +nothing on this LAN answers for nas.local$", cut["output"], re.MULTILINE
    )
    assert re.search(r"^  internet +no answer from ", cut["output"], re.MULTILINE)
    assert mended["output"].endswith("\nnas\n")
    assert mended["output"].startswith("nas: over internet, ")
    up = next(step for step in told["steps"] if step["command"] == "clan lab up")
    name = re.search(r"^lab: (\S+) is up after", up["output"], re.MULTILINE)
    assert name is not None
    assert name[1] not in state.names()
