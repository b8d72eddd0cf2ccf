"""Activation: switch to a new generation, and go back unless a fresh login confirms in time.

The timer that goes back is armed before the switch, by systemd, so that nothing that dies here or
at the admin's can stop it. A boot starts the last confirmed generation, whatever was under way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.machine import apply, packages
from clan.machine.layout import CONFIRMED, CURRENT, PROGRAM, Layout, boot_id, write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMER = "clan-rollback"
KEPT = 5
"""Generations kept: the confirmed one, the current one, and the latest besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """The activation under way: `token` is what a fresh login has to show for this boot."""

    number: int
    token: str
    boot: str
    stage: str
    """preparing, switching, waiting (for the confirmation), confirmed, rolled back, failed"""
    reason: str | None = None
    deadline: float = 0.0

    def note(self, layout: Layout) -> None:
        """Tell whoever asks how it stands."""
        shape = {
            "number": self.number,
            "token": self.token,
            "boot": self.boot,
            "stage": self.stage,
            "reason": self.reason,
            "deadline": self.deadline,
        }
        write(layout.activation, json.dumps(shape).encode(), 0o600)


def activation(layout: Layout) -> Activation | None:
    """Return the last activation of this boot, or None."""
    try:
        shape = json.loads(layout.activation.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return Activation(**shape)


@contextlib.contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """Be the only one that changes this machine. Raises StepError when another is at it."""
    layout.prepare()
    descriptor = os.open(layout.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StepError("another update of this machine is under way") from None
        yield
    finally:
        os.close(descriptor)


def activate(layout: Layout, number: int, token: str, limit: float) -> int:
    """Switch to generation `number`, and wait for its confirmation for `limit` seconds.

    Returns 0 when the switch is made and the checks pass: then the timer decides. What fails is
    noted with its reason, and undone at once.
    """
    waiting = activation(layout)
    with alone(layout):
        if waiting is not None and waiting.stage == "waiting" and waiting.deadline > _uptime():
            raise StepError(
                f"generation {waiting.number} is still waiting for its confirmation, "
                f"for {waiting.deadline - _uptime():.0f} s more"
            )
        now = Activation(number=number, token=token, boot=boot_id(), stage="preparing")
        now.note(layout)
        before = layout.manifest(layout.chosen(CURRENT))
        after = layout.manifest(number)
        try:
            packages.install(after.get("packages", ()))
            arm(layout, number, limit)
        except StepError as fault:
            _end(layout, now, "failed", str(fault))
            return 1
        deadline = _uptime() + limit
        _note(layout, now, "switching", deadline=deadline)
        layout.booted.touch()
        try:
            layout.choose(CURRENT, number)
            apply.apply(layout, before, after)
            apply.check(after)
        except (StepError, OSError) as fault:
            _back(layout, now, str(fault))
            return 1
        _note(layout, now, "waiting", deadline=deadline)
    return 0


def confirm(layout: Layout, number: int, token: str) -> None:
    """Make the generation the one that a boot starts. Raises StepError.

    The token is bound to this generation and this boot.
    """
    with alone(layout):
        now = activation(layout)
        if now is None or now.boot != boot_id() or (now.number, now.token) != (number, token):
            raise StepError(f"generation {number} is not waiting for this confirmation")
        if now.stage != "waiting":
            reason = f": {now.reason}" if now.reason else ""
            raise StepError(f"generation {number} is {now.stage}{reason}")
        layout.choose(CONFIRMED, number)
        disarm()
        keep_program(layout, number)
        _end(layout, now, "confirmed", None)
        collect(layout)


def rollback(layout: Layout, number: int, reason: str) -> None:
    """Go back to the confirmed generation, unless `number` was confirmed or is not current."""
    deadline = time.monotonic() + 600
    while True:
        try:
            with alone(layout):
                now = activation(layout)
                if layout.chosen(CURRENT) != number or layout.chosen(CONFIRMED) == number:
                    return
                if now is None:
                    now = Activation(number=number, token="", boot=boot_id(), stage="waiting")
                _back(layout, now, reason)
                return
        except StepError:
            # The activation itself holds the lock: it goes back by itself, or ends and waits.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def boot(layout: Layout) -> None:
    """Start the last confirmed generation, while the machine boots."""
    layout.prepare()
    number = layout.chosen(CONFIRMED)
    layout.choose(CURRENT, number)
    apply.apply(layout, {}, layout.manifest(number), booting=True)
    layout.booted.touch()


def arm(layout: Layout, number: int, limit: float) -> None:
    """Have systemd go back to the confirmed generation in `limit` seconds."""
    disarm()
    program = layout.generation(number) / PROGRAM
    run(
        [
            "systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={limit:g}s",
            "--timer-property=AccuracySec=100ms", "--property=Type=oneshot",
            "/usr/bin/python3", "-I", str(program if program.exists() else layout.program),
            "rollback", str(number), f"no confirmation came in {limit:g} s",
        ]
    )  # fmt: skip


def disarm() -> None:
    """Stop the timer, if it runs."""
    with contextlib.suppress(StepError):
        run(["systemctl", "stop", f"{TIMER}.timer"])


def _uptime() -> float:
    """Return seconds since the boot, which no change of the clock moves."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _note(layout: Layout, now: Activation, stage: str, *, deadline: float) -> None:
    Activation(
        number=now.number, token=now.token, boot=now.boot, stage=stage, deadline=deadline
    ).note(layout)


def _end(layout: Layout, now: Activation, stage: str, reason: str | None) -> None:
    Activation(number=now.number, token=now.token, boot=now.boot, stage=stage, reason=reason).note(
        layout
    )
    if reason:
        print(f"generation {now.number} {stage}: {reason}", file=sys.stderr)  # noqa: T201 (the journal)


def _back(layout: Layout, now: Activation, reason: str) -> None:
    """Undo: the confirmed generation again, whatever of the new one was applied."""
    wrong = layout.manifest(now.number)
    number = layout.chosen(CONFIRMED)
    layout.choose(CURRENT, number)
    try:
        apply.apply(layout, wrong, layout.manifest(number))
    except (StepError, OSError) as fault:
        reason = f"{reason}\ngoing back to generation {number}: {fault}"
    disarm()
    _end(layout, now, "rolled back", reason)


def keep_program(layout: Layout, number: int) -> None:
    """Have a boot run the program that came with the confirmed generation."""
    program = layout.generation(number) / PROGRAM
    if program.exists():
        write(layout.program, program.read_bytes(), 0o755)


def collect(layout: Layout) -> list[int]:
    """Remove old generations; return which."""
    chosen = {layout.chosen(CURRENT), layout.chosen(CONFIRMED), 0}
    spare = [number for number in layout.numbers() if number not in chosen]
    gone = spare[: max(0, len(spare) - KEPT + len(chosen - {0}))]
    for number in gone:
        shutil.rmtree(layout.generation(number))
    return gone


def status(layout: Layout, token: str = "") -> dict[str, Any]:
    """Return how the machine stands, as JSON values; `ours` is whether `token` began it."""
    numbers = layout.numbers()
    current, confirmed = layout.chosen(CURRENT), layout.chosen(CONFIRMED)
    now = activation(layout)
    return {
        "current": current,
        "confirmed": confirmed,
        "hash": layout.manifest(current).get("hash") if numbers else None,
        "generations": [
            {
                "number": number,
                "hash": layout.manifest(number).get("hash"),
                "made": _made(layout.generation(number)),
            }
            for number in numbers
        ],
        "activation": None
        if now is None
        else {
            "number": now.number,
            "stage": now.stage,
            "reason": now.reason,
            "ours": bool(token) and secrets.compare_digest(now.token, token),
        },
    }


def _made(folder: Path) -> float:
    return folder.stat().st_mtime
