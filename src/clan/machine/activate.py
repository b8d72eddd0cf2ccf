"""Activation: switch to a new generation, and go back unless a fresh login confirms in time.

The timer that goes back is armed before the switch, by systemd, so that nothing that dies here or
at the admin's can stop it. A boot starts the last confirmed generation, whatever was under way.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import syslog
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clan.machine import apply, packages, renewal, reserve, services, static, units
from clan.machine.files import give_up_others
from clan.machine.layout import CONFIRMED, CURRENT, PROGRAM, Layout, boot_id, sync, write
from clan.machine.system import BusyError, StepError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clan.machine.lacks import Given

TIMER = "clan-rollback"
PATIENCE = 30.0
"""Seconds that what must not fail for it waits for another to be done with the machine."""
STARTS = 30.0
"""Seconds from when an activation is noted until it has the lock, which it holds from then on."""
KEPT = 5
"""Generations kept: the confirmed one, the current one, and the latest besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """The activation under way: `token` is what a fresh login has to show for this boot.

    `deadline`, in seconds since the boot, is until when it has the machine for itself: a lease,
    which ends although whoever took it died. `unit` is what it runs in, `services` are the
    machine's own that ran before.
    """

    number: int
    token: str
    boot: str
    stage: str
    """preparing, switching, waiting (for the confirmation), confirmed, rolled back, failed"""
    deadline: float
    unit: str = ""
    reason: str | None = None
    services: dict[str, str] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        """Whether it has not ended, one way or the other."""
        return self.stage in {"preparing", "switching", "waiting"}

    def note(self, layout: Layout) -> None:
        """Tell whoever asks how it stands."""
        write(layout.activation, json.dumps(asdict(self)).encode(), 0o600)


def activation(layout: Layout) -> Activation | None:
    """Return the last activation of this boot, or None."""
    try:
        shape = json.loads(layout.activation.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return Activation(**shape)


@contextlib.contextmanager
def alone(layout: Layout, *, patience: float = 0.0) -> Iterator[None]:
    """Be the only one that changes this machine, waiting for another for `patience` seconds.

    Raises BusyError when another is still at it.
    """
    layout.prepare()
    descriptor = os.open(layout.run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise BusyError("another update of this machine is under way") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def refuse_second(layout: Layout) -> None:
    """Raise BusyError while an activation has the machine for itself."""
    now = activation(layout)
    left = 0.0 if now is None else now.deadline - uptime()
    if now is not None and now.under_way and left > 0:
        waits = "waits for its confirmation" if now.stage == "waiting" else "is being activated"
        raise BusyError(f"another update is under way: generation {now.number} {waits}, "
                        f"for {left:.0f} s more at most")  # fmt: skip


def give_way(layout: Layout, former: str) -> None:
    """End an activation that the token `former` began: whoever began it died, and begins anew."""
    now = activation(layout)
    if former and now is not None and now.under_way and _same(now.token, former):
        rollback(layout, now.number, "it was begun anew")


def _same(token: str, other: str) -> bool:
    """Compare in a time that tells nothing of either."""
    from hmac import compare_digest

    return compare_digest(token.encode(), other.encode())


def begin(layout: Layout, number: int, token: str, unit: str, lease: float = STARTS) -> None:
    """Note that generation `number` is to be activated in a unit, within `lease` seconds.

    Raises BusyError while another is.
    """
    with alone(layout):
        refuse_second(layout)
        Activation(
            number=number,
            token=token,
            boot=boot_id(),
            stage="preparing",
            deadline=uptime() + lease,
            unit=unit,
        ).note(layout)


def abandon(layout: Layout, number: int, reason: str) -> None:
    """Note that an activation ended before it switched; after that, its timer undoes it."""
    with alone(layout, patience=PATIENCE):
        now = activation(layout)
        if now is not None and now.number == number and now.stage == "preparing":
            _end(layout, now, "failed", reason)


def bury(layout: Layout) -> None:
    """Note of an activation that was killed before it switched that it ended."""
    now = activation(layout)
    if now is not None and now.stage == "preparing" and now.unit and not units.runs(now.unit):
        said = units.journal([now.unit])
        abandon(layout, now.number, f"the activation died{f': {said}' if said else ''}")


def activate(layout: Layout, number: int, limit: float, given: Given) -> int:
    """Switch to generation `number`, which `begin` noted; wait for confirmation `limit` seconds.

    `given` is what the admin's `clan` gave for it. Returns 0 when the switch is made and the checks
    pass: then the timer decides. What fails is noted with its reason, and undone at once.
    """
    with alone(layout, patience=PATIENCE):
        now = activation(layout)
        if now is None or (now.number, now.stage) != (number, "preparing"):
            raise StepError(f"the activation of generation {number} was not begun")
        before = layout.manifest(layout.chosen(CURRENT))
        after = layout.manifest(number)
        try:
            packages.install([*after.get("packages", ()), *given.instead], given.way)
            reserve.keep(layout)
            now = replace(now, services=services.running(units.names(before) | units.names(after)))
            arm(layout, number, limit)
        except (StepError, OSError) as fault:
            disarm()
            _end(layout, now, "failed", str(fault))
            return 1
        now = replace(now, stage="switching", deadline=uptime() + limit)
        now.note(layout)
        layout.booted.touch()
        try:
            give_up_others(layout, after)
            layout.choose(CURRENT, number)
            apply.apply(layout, before, after)
            renewal.show_host_key(layout, after.get("host_key"))
            apply.check(after)
        except (StepError, OSError) as fault:
            _back(layout, now, str(fault))
            return 1
        replace(now, stage="waiting").note(layout)
    return 0


def confirm(layout: Layout, number: int, token: str) -> None:
    """Make the generation the one that a boot starts. Raises StepError.

    The token is bound to this generation and this boot. Its units are looked at once more: one
    that ended soon after it was started is known by now.
    """
    with alone(layout, patience=PATIENCE):
        now = activation(layout)
        if (
            now is None
            or now.boot != boot_id()
            or now.number != number
            or not _same(now.token, token)
        ):
            raise StepError(f"generation {number} is not waiting for this confirmation")
        if now.stage == "confirmed":
            return
        if now.stage != "waiting":
            reason = f": {now.reason}" if now.reason else ""
            raise StepError(f"generation {number} is {now.stage}{reason}")
        try:
            apply.check_units(layout.manifest(number))
        except StepError as fault:
            _back(layout, now, str(fault))
            raise
        layout.choose(CONFIRMED, number)
        disarm()
        with contextlib.suppress(StepError, OSError):
            # Else when it is asked for the next one, or at a boot.
            renewal.settle_host_key(layout, layout.manifest(number).get("host_key"))
        _end(layout, now, "confirmed", None)
        collect(layout)
        keep_program(layout, number)


def rollback(layout: Layout, number: int, reason: str, *, unheard: bool = False) -> None:
    """Go back to the confirmed generation, unless `number` was confirmed or is not under way.

    An activation that is still at it, as what it starts hangs, is ended. `unheard` means that the
    time for a confirmation is over.
    """
    end = time.monotonic() + 600
    while True:
        try:
            with alone(layout):
                now = activation(layout)
                if now is not None and now.number == number and now.under_way:
                    _back(layout, now, reason, unheard=unheard)
                return
        except BusyError:
            if time.monotonic() > end:
                raise
            now = activation(layout)
            if now is not None and now.number == number and now.stage == "switching":
                with contextlib.suppress(StepError):
                    run(["systemctl", "kill", "--signal=KILL", now.unit])
            time.sleep(0.05)


def boot(layout: Layout) -> None:
    """Start the last confirmed generation, while the machine boots."""
    layout.prepare()
    packages.let_daemons_start()
    number = layout.chosen(CONFIRMED)
    manifest = layout.manifest(number)
    try:
        _start(layout, number, manifest)
    except (StepError, OSError):
        # For the rest of this boot at least: the disk may be full.
        reserve.spend(layout)
        _start(layout, number, manifest)
    finally:
        layout.booted.touch()


def _start(layout: Layout, number: int, manifest: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        give_up_others(layout, manifest)
    layout.choose(CURRENT, number)
    renewal.settle_host_key(layout, manifest.get("host_key"), booting=True)
    apply.apply(layout, {}, manifest, booting=True)


def arm(layout: Layout, number: int, limit: float) -> None:
    """Have systemd go back to the confirmed generation in `limit` seconds."""
    words = [
        "systemd-run", "--quiet", "--collect", f"--unit={TIMER}-{number}",
        f"--on-active={limit:g}s",
        "--timer-property=AccuracySec=100ms", "--property=Type=oneshot",
        "/usr/bin/python3", "-I", str(layout.program_of(number)),
        "expire", str(number), f"no confirmation came in {limit:g} s",
    ]  # fmt: skip
    try:
        run(words)
    except StepError:
        # One of that name is left from an activation that was killed.
        disarm()
        run(words)


def disarm() -> None:
    """Stop the timer, if it runs."""
    with contextlib.suppress(StepError):
        run(["systemctl", "stop", f"{TIMER}-*.timer"])


def uptime() -> float:
    """Return seconds since the boot, which no change of the clock moves."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _end(layout: Layout, now: Activation, stage: str, reason: str | None) -> None:
    replace(now, stage=stage, reason=reason, services={}).note(layout)
    if reason:
        # To the journal, whoever has our standard error.
        syslog.syslog(syslog.LOG_ERR, f"generation {now.number} {stage}: {reason}")


def _back(layout: Layout, now: Activation, reason: str, *, unheard: bool = False) -> None:
    """Undo: the confirmed generation again, whatever of the new one was applied."""
    wrong = layout.manifest(now.number)
    number = layout.chosen(CONFIRMED)
    right = layout.manifest(number)
    steps: list[Callable[[], object]] = [
        # What is wrong ends first: it may be what fills the disk.
        lambda: units.stop_old(wrong, right, changed=True),
        lambda: reserve.spend(layout),
        lambda: give_up_others(layout, right),
        lambda: layout.choose(CURRENT, number),
        lambda: renewal.settle_host_key(layout, right.get("host_key")),
        lambda: apply.apply(layout, wrong, right, going_back=True),
        lambda: services.restore(now.services, unheard=unheard),
        lambda: reserve.keep(layout),
    ]
    for step in steps:
        try:
            step()
        except (StepError, OSError) as fault:
            reason = f"{reason}\ngoing back to generation {number}: {fault}"
    disarm()
    _end(layout, now, "rolled back", reason)


def keep_program(layout: Layout, number: int) -> None:
    """Have a boot run the program that came with the confirmed generation."""
    with contextlib.suppress(FileNotFoundError):
        program = (layout.generation(number) / PROGRAM).read_bytes()
        if not layout.program.exists() or layout.program.read_bytes() != program:
            write(layout.program, program, 0o755)


def collect(layout: Layout) -> list[int]:
    """Remove old generations, and programs that none uses; return which generations."""
    chosen = {layout.chosen(CURRENT), layout.chosen(CONFIRMED), 0}
    spare = [number for number in layout.numbers() if number not in chosen]
    gone = spare[: max(0, len(spare) - KEPT + len(chosen - {0}))]
    for left in layout.generations.glob(".gone-*"):
        shutil.rmtree(left)
    for number in gone:
        # Without its name first: half of a generation must not pass for one.
        nameless = layout.generations / f".gone-{number}"
        layout.generation(number).rename(nameless)
        sync(layout.generations)
        shutil.rmtree(nameless)
    static.collect(layout)
    needed = [layout.manifest(number) for number in layout.numbers() if number]
    with contextlib.suppress(StepError):
        renewal.forget_identities(layout, needed)
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
            "ours": _same(now.token, token),
        },
    }


def _made(folder: Path) -> float:
    return folder.stat().st_mtime
