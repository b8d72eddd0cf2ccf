"""Completion as it is typed: the printed script in the shell it is for, installed as it says."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from clan.cli.completion import INSTALL

if TYPE_CHECKING:
    from pathlib import Path

CLAN_FILE = """
[meta]
name = "family"
[machines.desktop]
[machines.nas]
[machines.laptop]
"""
PATIENCE = 60.0
TAB, SHOW = b"\t", b"\x18"
IN_ZSH = """\
fpath=(~/completions $fpath)
autoload -Uz compinit && compinit -u -D
show() { print -r -- "<$BUFFER>" }
zle -N show && bindkey '^X' show
print ready
"""


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        shutil.which(shell) is None, reason=f"{shell} is not installed (apt install {shell})"
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder, with a clan and `clan` on the PATH."""
    (tmp_path / "clan.toml").write_text(CLAN_FILE)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/clan"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m clan "$@"\n')
    program.chmod(0o755)
    return tmp_path


def environment(home: Path) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
    path = f"{home / 'bin'}:{os.environ['PATH']}"
    return kept | {"HOME": str(home), "PATH": path, "TERM": "dumb"}


def installed(home: Path, shell: str, folder: str) -> None:
    """Run the line that the script and the help name; its folder is the user's to make."""
    (home / folder).mkdir(parents=True)
    line = ["sh", "-c", INSTALL[shell]] if shell != "zsh" else ["zsh", "-fc", INSTALL[shell]]
    own = environment(home) | {"FPATH": str(home / folder)}
    subprocess.run(line, env=own, cwd=home, check=True)


def lines_of(home: Path, *words: str) -> list[str]:
    done = subprocess.run(
        words, env=environment(home), cwd=home, check=True, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_bash_completes_a_machine(home: Path) -> None:
    installed(home, "bash", ".local/share/bash-completion/completions")
    script = (
        ". ~/.local/share/bash-completion/completions/clan; "
        'COMP_WORDS=(clan ssh "$1"); COMP_CWORD=2; _clan_completion clan; '
        'printf "%s\\n" "${COMPREPLY[@]}"; complete -p clan'
    )
    *found, how = lines_of(home, "bash", "--norc", "-c", script, "bash", "n")
    assert found == ["nas"]
    assert "_clan_completion" in how
    *found, _ = lines_of(home, "bash", "--norc", "-c", script, "bash", "")
    assert sorted(found) == ["desktop", "laptop", "nas"]


@needs("fish")
def test_fish_completes_a_machine(home: Path) -> None:
    installed(home, "fish", ".config/fish/completions")
    assert lines_of(home, "fish", "-c", "complete -C 'clan ssh n'") == ["nas"]
    found = lines_of(home, "fish", "-c", "complete -C 'clan ssh '")
    assert sorted(found) == ["desktop", "laptop", "nas"]
    (network,) = lines_of(home, "fish", "-c", "complete -C 'clan netw'")
    assert re.fullmatch(r"network\t.+", network)


@needs("zsh")
def test_zsh_completes_a_machine(home: Path) -> None:
    installed(home, "zsh", "completions")
    assert typed_in_zsh(home, b"clan ssh n") == "clan ssh nas "
    assert typed_in_zsh(home, b"clan netw") == "clan network "


def typed_in_zsh(home: Path, line: bytes) -> str:
    """Return what an interactive zsh makes of a line when Tab is pressed."""
    (home / ".zshrc").write_text(IN_ZSH)
    ours, theirs = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-d", "-i"],
        env=environment(home) | {"ZDOTDIR": str(home)},
        cwd=home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        read_until(ours, re.compile(r"ready\s"))
        os.write(ours, line + TAB + SHOW)
        return read_until(ours, re.compile(r"<(.*)>"))[1]
    finally:
        zsh.kill()
        zsh.wait()
        os.close(ours)


def read_until(terminal: int, pattern: re.Pattern[str]) -> re.Match[str]:
    text = ""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            with suppress(OSError):  # it has ended
                text += os.read(terminal, 65536).decode("utf-8", "replace")
        if found := pattern.search(text):
            return found
    pytest.fail(f"zsh never says {pattern.pattern!r}: {text!r}")
