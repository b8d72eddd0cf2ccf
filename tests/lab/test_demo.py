"""The demo tells its story on real machines, and each step is as it is told."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clan.lab import state

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples/family/demo.py"
VARYING = (
    (re.compile(r"SHA256:\S+"), "FINGERPRINT"),
    (re.compile(r"\[[0-9a-f:]+\]:|\b\d+\.\d+\.\d+\.\d+:"), "ADDRESS:"),
)
"""What is another each time, and what it is compared as. A host may be reached by IPv4 or IPv6."""


@pytest.fixture(scope="module")
def told(lab_ready: None) -> Any:
    """Return what the demo told."""
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
    assert (done.returncode == 0, done.stderr) == (told["as_told"], "")
    return told


def steady(text: str) -> list[str]:
    for pattern, name in VARYING:
        text = pattern.sub(name, text)
    return text.splitlines()


def test_the_laptop_reaches_the_nas_over_four_networks(told: Any) -> None:
    faults = [(step["command"], step["fault"], step["output"]) for step in told["steps"]]
    assert [fault for fault in faults if fault[1]] == []
    assert told["as_told"]
    assert told["seconds"] < 180  # two minutes on a quiet computer are promised
    met, *logins = [step for step in told["steps"] if step["command"] == "clan ssh nas hostname"]
    assert met["output"].startswith("nas: over lan, ")
    assert met["output"].endswith("[yes/no] yes\nnas\n")
    assert [step["over"] for step in logins] == ["lan", "internet", "wireguard", "tor"]
    for step in logins:
        # The only words besides the machine's own: nothing was asked, nothing went wrong.
        assert re.fullmatch(rf"nas: over {step['over']}, [^\n]+\nnas\n", step["output"])
        assert step["at"] == "laptop"
    up = next(step for step in told["steps"] if step["command"] == "clan lab up")
    name = re.search(r"^lab: (\S+) is up after", up["output"], re.MULTILINE)
    assert name is not None
    assert name[1] not in state.names()


def test_the_readme_shows_what_the_demo_shows(told: Any) -> None:
    """Its captures are shortened: steps are left out, but nothing of what a command says."""
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## What it looks like\n")[2].partition("\n## ")[0]
    captures = re.findall(r"(?ms)^```console\n(.*?)^```$", section)
    steps = iter(told["steps"])
    shown = 0
    for capture in captures:
        for part in re.split(r"(?m)^laptop\$ ", capture)[1:]:
            command, _, output = part.replace("\\\n> ", "\\\n").partition("\n")
            while command.endswith("\\"):
                line, _, output = output.partition("\n")
                command += f"\n{line}"
            same = (
                each["command"]
                for each in steps
                if each["at"] == "laptop"
                and (each["command"], steady(each["output"])) == (command, steady(output))
            )
            assert next(same, None), f"the demo does not show this, or not then: {part}"
            shown += 1
    assert shown >= 5
