"""systemd's units of a generation: emitted by a small systemd generator, started and stopped here.

The generator (systemd.generator(7)) links the units of the generation that counts: the confirmed
one while the machine boots, the current one afterwards. Nothing is written to /etc/systemd/system.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from clan.machine.layout import write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

GENERATOR = "etc/systemd/system-generators/clan"
SCRIPT = """\
#!/bin/sh
# Made by clan. Links the units of the generation that counts; see systemd.generator(7).
state=/var/lib/clan
which=confirmed
[ -e /run/clan/booted ] && which=current
units=$state/$which/units
[ -d "$units" ] || exit 0
# Resolved now: while a boot goes on, `current` may still be moved.
units=$(readlink -f "$units")
mkdir -p "$1/multi-user.target.wants"
for unit in "$units"/*; do
  [ -e "$unit" ] || continue
  ln -sf "$unit" "$1/"
done
if [ -r "$units/../start" ]; then
  while read -r name; do
    ln -sf "$units/$name" "$1/multi-user.target.wants/"
  done <"$units/../start"
fi
exit 0
"""
BOOT_UNIT = "etc/systemd/system/clan-boot.service"
BOOT = """\
[Unit]
Description=Start the last confirmed generation of clan
DefaultDependencies=no
Wants=network-pre.target
After=local-fs.target systemd-sysctl.service ufw.service
Before=network-pre.target sysinit.target
RequiresMountsFor=/var/lib/clan /run

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/python3 -I /var/lib/clan/machine.pyz boot

[Install]
WantedBy=sysinit.target
"""
LINKS_UNIT = "etc/systemd/system/clan-links.service"
LINKS = """\
[Unit]
Description=Network links of clan
After=network.target clan-boot.service
Requires=clan-boot.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I /var/lib/clan/machine.pyz links
"""
TIMER_UNIT = "etc/systemd/system/clan-links.timer"
TIMER = """\
[Unit]
Description=Look again for the far ends of clan's links

[Timer]
OnBootSec=1s
OnUnitInactiveSec=30s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


GRACE = 5.0
"""Seconds that units have to end when a generation is undone."""
ENABLED = ("clan-boot.service", "clan-links.timer")


def install(root: Path) -> None:
    """Put the systemd generator and the boot service in their places."""
    write(root / GENERATOR, SCRIPT.encode(), 0o755)
    for name, text in ((BOOT_UNIT, BOOT), (LINKS_UNIT, LINKS), (TIMER_UNIT, TIMER)):
        write(root / name, text.encode())
    run(["systemctl", "daemon-reload"])
    run(["systemctl", "enable", "--quiet", *ENABLED])
    run(["systemctl", "start", "clan-links.timer"])


def uninstall(root: Path) -> None:
    """Take them away."""
    with contextlib.suppress(StepError):
        run(["systemctl", "disable", "--quiet", "--now", *ENABLED])
    for name in (GENERATOR, BOOT_UNIT, LINKS_UNIT, TIMER_UNIT):
        (root / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (root / GENERATOR).parent.rmdir()
    run(["systemctl", "daemon-reload"])


def stamps(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return unit -> what it and the files it reads are like, for those that are to run."""
    return {unit["name"]: unit["stamp"] for unit in manifest.get("units", ()) if unit["start"]}


def names(manifest: Mapping[str, Any]) -> set[str]:
    """Return all units of a generation, whether they are to run or not."""
    return {unit["name"] for unit in manifest.get("units", ())}


def stop_old(before: Mapping[str, Any], after: Mapping[str, Any], *, changed: bool = False) -> None:
    """Stop what the new generation does not have, while its unit is still known.

    With `changed`, what it has in another form is stopped too, before anything else changes.
    """
    wanted = stamps(after)
    gone = [
        name
        for name, stamp in stamps(before).items()
        if name not in wanted or (changed and wanted[name] != stamp)
    ]
    if not gone:
        return
    try:
        run(["systemctl", "stop", *gone], limit=GRACE if changed else 120.0)
    except StepError:
        if not changed:
            raise
        # Nothing that does not want to end keeps a machine from going back.
        run(["systemctl", "kill", "--kill-who=main", "--signal=KILL", *gone])
        run(["systemctl", "stop", *gone])
    _forget_failures(gone)


def start_new(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Read the units anew; restart what changed, start what does not run. Raises StepError."""
    run(["systemctl", "daemon-reload"])
    known, wanted = stamps(before), stamps(after)
    changed = [name for name, stamp in wanted.items() if known.get(name, stamp) != stamp]
    started = [name for name in wanted if name not in changed]
    # One that failed often in the generation before is not to wait for that.
    _forget_failures([name for name, state in _states(wanted).items() if _is_bad(state)])
    for verb, names in (("restart", changed), ("start", started)):
        if names:
            try:
                run(["systemctl", verb, *names])
            except StepError as fault:
                raise StepError(f"{fault}\n{journal(names)}") from fault


def runs(name: str) -> bool:
    """Return whether a unit is at it."""
    return _states([name])[name].get("ActiveState") in {"active", "activating"}


def failed(manifest: Mapping[str, Any]) -> list[str]:
    """Return the units of a generation that are not running, or are started again and again.

    Those that systemd has started again a moment ago are looked at until that is clear.
    """
    names = list(stamps(manifest))
    first = now = _states(names)
    end = time.monotonic() + _FRESH
    while any(_is_fresh(state) for state in now.values()) and time.monotonic() < end:
        time.sleep(_LOOK_EVERY)
        now = _states(names)
    return [
        name
        for name, state in now.items()
        if _is_bad(state) or _restarts(state) > _restarts(first[name])
    ]


_STATE = "Type,ActiveState,SubState,NRestarts,ActiveEnterTimestampMonotonic"
_FRESH = 5.0
"""Seconds within which what systemd has started again by itself may end as before."""
_LOOK_EVERY = 0.2


def _states(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return unit -> property -> value, of the properties that say how it runs."""
    names = list(names)
    if not names:
        return {}
    shown = run(["systemctl", "show", f"--property={_STATE}", "--", *names])
    blocks = [
        dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for block in shown.strip().split("\n\n")
    ]
    return dict(zip(names, blocks, strict=True))


def _restarts(state: Mapping[str, str]) -> int:
    return int(state.get("NRestarts", 0))


def _is_fresh(state: Mapping[str, str]) -> bool:
    since = int(state.get("ActiveEnterTimestampMonotonic", 0)) / 1e6
    return (
        state.get("ActiveState") == "active"
        and _restarts(state) > 0
        and time.monotonic() - since < _FRESH
    )


def _is_bad(state: Mapping[str, str]) -> bool:
    active = state.get("ActiveState")
    if active == "activating":
        # It ended, and systemd waits before it tries again.
        return state.get("SubState", "").startswith("auto-restart")
    if active == "inactive":
        # What is done once is over when it is done.
        return state.get("Type") != "oneshot"
    return active not in {"active", "reloading", "refreshing"}


def _forget_failures(names: Iterable[str]) -> None:
    """Have systemd forget that units failed, and how often; it need not know them any more."""
    for name in names:
        with contextlib.suppress(StepError):
            run(["systemctl", "reset-failed", name])


def journal(names: list[str]) -> str:
    """Return the last words of units that failed."""
    with contextlib.suppress(StepError):
        units = [word for name in names for word in ("-u", name)]
        return run(["journalctl", "-b", "-n", "8", "-o", "cat", "--no-pager", *units]).strip()
    return ""
