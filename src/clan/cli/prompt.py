"""Asking a person for a value, at /dev/tty: standard input and output may be anything."""

from __future__ import annotations

import os
import termios
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clan.cli.ask import has_terminal
from clan.errors import UsageError
from clan.model.generator import PromptKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.generator import Prompt
    from clan.vars.names import GeneratorId

_MOST = 1 << 20
"""Bytes that are read of an answer."""
_LABELS = {
    PromptKind.LINE: "{}: ",
    PromptKind.HIDDEN: "{} (not shown): ",
    PromptKind.MULTILINE: "{} (end with Ctrl-D on a line of its own):\n",
}


def ask_prompt(owner: GeneratorId, prompt: Prompt) -> str:
    """Ask what a generator prompts for. Raises UsageError where there is no terminal."""
    id_ = f"{owner}/{prompt.name}"
    return ask(f"{id_}: {prompt.description}", prompt.kind, id_)


def ask(text: str, kind: PromptKind, id_: str) -> str:
    """Ask until there is an answer; `id_` is how it is set without a terminal. Raises UsageError.

    An end of input is no answer, and ends the command.
    """
    if not has_terminal():
        raise UsageError(
            f"{text}: this needs an answer, and there is no terminal to ask at",
            hint=f"`clan vars set {id_} --stdin` reads it from standard input",
        )
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        answer = ""
        while not answer:
            with _echo_off(terminal, off=kind is PromptKind.HIDDEN):
                os.write(terminal, _LABELS[kind].format(text).encode())
                answer = _read(terminal, whole=kind is PromptKind.MULTILINE)
        return answer
    finally:
        os.close(terminal)


@contextmanager
def _echo_off(terminal: int, *, off: bool) -> Iterator[None]:
    if not off:
        yield
        return
    before = termios.tcgetattr(terminal)
    silent = [*before]
    silent[3] &= ~termios.ECHO
    # TCSAFLUSH: what was typed ahead was shown, and is not the answer.
    termios.tcsetattr(terminal, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        os.write(terminal, b"\n")


def _read(terminal: int, *, whole: bool) -> str:
    """Read a line, or up to the end of input, and drop the last line end."""
    data = b""
    while len(data) < _MOST:
        found = os.read(terminal, 4096)
        data += found
        if not found or (not whole and data.endswith(b"\n")):
            break
    if not data:
        raise UsageError("the terminal gave no answer")
    return data.decode("utf-8", "replace").removesuffix("\n")
