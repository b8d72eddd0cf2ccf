"""Asking the person at the terminal, whatever standard input and output are used for."""

from __future__ import annotations

import asyncio
import os


def has_terminal() -> bool:
    """Whether there is a terminal to ask at."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def confirm(question: str) -> bool:
    """Ask a question that only `yes` answers with yes. An end of input is a no."""
    terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    try:
        prompt = f"{question}\nIs this the machine? [yes/no] "
        while True:
            os.write(terminal, prompt.encode())
            answer = (await _line(terminal)).strip().casefold()
            if answer in {"yes", "no", ""}:
                return answer == "yes"
            prompt = "Please type yes or no: "
    finally:
        os.close(terminal)


async def _line(terminal: int) -> str:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(terminal, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(terminal)
    return os.read(terminal, 1024).decode("utf-8", "replace")
