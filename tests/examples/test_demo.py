"""The demo without a lab: what it does when the story goes wrong, or nobody wants to hear it."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "examples/family/demo.py"
A_KEY = "SHA256:" + "a" * 43
ANOTHER_KEY = "SHA256:" + "b" * 43


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = code
    spec.loader.exec_module(code)
    return code


class Stage:
    """A demo whose `clan` is a script: it notes how it is called, and does what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        self.clan = folder / "clan"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = os.environ | {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "TMPDIR": str(self.temporary),
        }

    def clan_does(self, script: str) -> None:
        self.clan.write_text(f'#!/bin/sh\necho "$CLAN_LAB: $*" >>{self.notes}\n{script}\n')
        self.clan.chmod(0o755)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, DEMO, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def calls(self) -> list[str]:
        return [line.partition(": ")[2] for line in self.notes.read_text().splitlines()]

    def wait_for(self, call: str) -> None:
        for _ in range(500):
            if call in self.calls():
                return
            time.sleep(0.02)
        pytest.fail(f"never called: clan {call}")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_step_that_goes_otherwise_ends_the_story_and_the_lab(stage: Stage) -> None:
    stage.clan_does('[ "$2" = down ] || { echo "error: no image" >&2; exit 8; }')
    demo = stage.begin()
    out, _ = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "$ clan lab up\nerror: no image\n" in out
    assert "This is not how the story goes: it ended with 8 instead of 0." in out
    assert out.rstrip().endswith("$ clan lab down")
    assert stage.calls() == ["lab up", "lab down"]
    assert list(stage.temporary.iterdir()) == []


def test_as_data_the_step_says_what_was_not_as_told(stage: Stage) -> None:
    stage.clan_does(r"printf '\033[1mnothing\033[0m of note\n'")
    demo = stage.begin("--json")
    out, err = demo.communicate(timeout=30)
    told = json.loads(out)
    assert (demo.returncode, err, told["as_told"]) == (1, "", False)
    *_, up, down = told["steps"]
    assert up["command"] == "clan lab up"
    assert up["output"] == "nothing of note\n"
    assert up["fault"] == "nowhere does it say 'is up after'"
    assert (down["command"], down["fault"]) == ("clan lab down", None)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_whoever_leaves_early_leaves_nothing_behind(
    stage: Stage, number: signal.Signals, status: int
) -> None:
    stage.clan_does('[ "$2" = down ] || exec sleep 60')
    demo = stage.begin()
    stage.wait_for("lab up")
    demo.send_signal(number)
    out, err = demo.communicate(timeout=30)
    assert (demo.returncode, err) == (status, "")
    assert out.rstrip().endswith("$ clan lab down")
    assert stage.calls() == ["lab up", "lab down"]
    assert list(stage.temporary.iterdir()) == []


def test_two_demos_have_two_labs(stage: Stage) -> None:
    stage.clan_does("exit 8")
    for demo in (stage.begin(), stage.begin()):
        demo.communicate(timeout=30)
    labs = {line.partition(": ")[0] for line in stage.notes.read_text().splitlines()}
    assert len(labs) == 2


@pytest.mark.parametrize(("shown_before", "answer"), [(A_KEY, "yes"), (ANOTHER_KEY, "no")])
def test_first_contact_is_confirmed_for_the_machines_own_key_alone(
    tmp_path: Path, shown_before: str, answer: str
) -> None:
    asks = f"printf 'the host key {A_KEY}.\nIs this it? [yes/no] '; read said; echo said $said"
    status, output = loaded().at_terminal(
        ["sh", "-c", asks],
        tmp_path,
        dict(os.environ),
        before=f"256 {shown_before} root@nas (ED25519)",
        show=lambda _: None,
    )
    assert (status, output.splitlines()[-1]) == (0, f"said {answer}")


def test_a_command_that_never_ends_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = loaded()
    monkeypatch.setattr(demo, "LONGEST", 0.3)
    waits = ["sh", "-c", "echo here; exec sleep 60"]
    status, output = demo.at_terminal(
        waits, tmp_path, dict(os.environ), before="", show=lambda _: None
    )
    assert (status, output) == (-signal.SIGTERM, "here\n")


def test_what_progress_wrote_over_is_not_shown() -> None:
    assert loaded().plain("a\n\rlooking 1/2\rlooking 2/2\r\x1b[Kb\n") == "a\nb\n"


def test_the_story_fits_80_columns() -> None:
    demo = loaded()
    for step in (*demo.STORY, demo.END):
        assert len(f"==> {step.story}") <= demo.COLUMNS
