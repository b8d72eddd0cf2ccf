"""The lab from the command line, as a user meets it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

LAB = """
[sites]
home = {}
a-site-with-quite-a-long-name = { router = { nat = "none" } }
[machines]
nas = { site = "home" }
a_machine_whose_name_is_rather_long = { site = "a-site-with-quite-a-long-name" }
laptop = { site = "home", clan = true }
[admin]
site = "home"
"""


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    return labs(LAB)


def argv(lab: Lab, *words: str) -> list[str]:
    clan = [sys.executable, "-m", "clan", "--clan", str(lab.clan_dir), "lab"]
    return [*clan, words[0], "--name", lab.state.name, *words[1:]]


def clan(lab: Lab, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv(lab, *words), input=text, capture_output=True, text=True, check=False
    )


def test_status_fits_a_terminal_and_tells_what_is_cut(lab: Lab) -> None:
    clan(lab, "cut", "nas", "--protocol", "udp", "--port", "51820", "--direction", "out")
    clan(lab, "cut", "home")
    clan(lab, "cut", "laptop", "--carrier")
    shown = clan(lab, "status").stdout
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("cut: udp 51820 out", "the uplink of home is cut: all", "cable pulled"):
        assert part in shown
    seen = json.loads(clan(lab, "status", "--json").stdout)
    assert seen["cuts"][0] == {"what": "home", "protocol": None, "port": None, "direction": "both"}
    assert [m["name"] for m in seen["machines"] if m["pulled"]] == ["laptop"]
    clan(lab, "restore", "nas")
    assert "51820" not in clan(lab, "status").stdout
    clan(lab, "restore")
    assert "cut" not in clan(lab, "status").stdout


def test_what_is_misspelt_is_answered_with_what_is_near(lab: Lab) -> None:
    for words, near in (
        (("cut", "nsa"), "nas"),
        (("move", "nsa", "home"), "nas"),
        (("move", "nas", "hom"), "home"),
        (("exec", "nsa", "true"), "nas"),
    ):
        done = clan(lab, *words)
        assert done.returncode == 2
        assert f"hint: did you mean {near!r}?" in done.stderr


def test_input_output_and_status_pass_through(lab: Lab) -> None:
    script = "cat; echo oops >&2; exit 7"
    for words in (
        ("exec", "nas", "--", "sh", "-c", script),
        ("run", "--", "sh", "-c", script),
        ("run", "--on", "laptop", "--", "sh", "-c", script),
    ):
        done = clan(lab, *words, text="hello\n")
        assert (done.returncode, done.stdout, done.stderr) == (7, "hello\n", "oops\n")
    assert clan(lab, "run", "--", "no-such-program").returncode == 127


@pytest.mark.parametrize("words", [("run", "--"), ("exec", "nas", "--")])
def test_a_signal_ends_the_command_itself(lab: Lab, words: tuple[str, ...]) -> None:
    trap = "trap 'echo ended; exit 5' TERM; echo begun; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        argv(lab, *words, "sh", "-c", trap), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert output.readline() == b"ended\n"
        assert process.wait(5) == 5


@pytest.mark.parametrize("words", [("run", "--"), ("exec", "nas", "--"), ("exec", "nas")])
def test_a_terminal_passes_through(lab: Lab, words: tuple[str, ...]) -> None:
    """With a terminal here, the command has one; a shell in it takes what is typed."""
    command = () if words == ("exec", "nas") else ("sh",)
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, argv(lab, *words, *command))
    os.write(terminal, b"tty; echo is-$((6*7)); exit 3\n")
    seen, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 3
    assert b"/dev/pts/" in seen
    assert b"is-42" in seen


def test_without_the_clan_on_it_a_machine_cannot_be_the_admins(lab: Lab) -> None:
    done = clan(lab, "run", "--on", "nas", "--", "true")
    assert done.returncode == 2
    assert "hint: say `clan = true` for it in lab.toml" in done.stderr


def test_a_move_is_one_command(lab: Lab) -> None:
    assert clan(lab, "move", "admin", "a-site-with-quite-a-long-name").returncode == 0
    assert "203.0.113.2/27" in clan(lab, "run", "--", "ip", "-br", "address").stdout
    assert clan(lab, "move", "admin", "home").returncode == 0


def test_a_lab_that_is_not_up_says_how_to_bring_it_up(lab_name: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "clan", "--clan", str(tmp_path), "lab", "status"]
    done = subprocess.run([*words, "--name", lab_name], capture_output=True, text=True, check=False)
    assert done.returncode == 8
    assert f"hint: bring it up with `clan lab up --name {lab_name}`" in done.stderr
