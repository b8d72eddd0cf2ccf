"""`clan run` before it reaches anyone; tests/lab/test_update.py runs commands on machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FAMILY = Path(__file__).parents[2] / "examples/family"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clan", "--clan", str(FAMILY), "run", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ),
    )


def test_an_unknown_tag_or_machine_gets_the_nearest_one() -> None:
    done = run("--tags", "sever", "--", "true")
    assert done.returncode == 2
    assert "no machine has the tag 'sever'" in done.stderr
    assert "server" in done.stderr
    done = run("--on", "nass", "--", "true")
    assert done.returncode == 2
    assert "nas" in done.stderr


def test_without_a_command_nothing_is_run() -> None:
    done = run("--tags", "server")
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
