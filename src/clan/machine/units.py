"""systemd's units of a generation: emitted by a small systemd generator, started and stopped here.

The generator (systemd.generator(7)) links the units of the generation that counts: the confirmed
one while the machine boots, the current one afterwards. Nothing is written to /etc/systemd/system.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from clan.machine.layout import write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Mapping
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
After=local-fs.target systemd-sysctl.service
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
    run(["systemctl", "daemon-reload"])


def stamps(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return unit -> what it and the files it reads are like, for those that are to run."""
    return {unit["name"]: unit["stamp"] for unit in manifest.get("units", ()) if unit["start"]}


def stop_old(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Stop what the new generation does not have, while its unit is still known."""
    gone = [name for name in stamps(before) if name not in stamps(after)]
    if gone:
        run(["systemctl", "stop", *gone])


def start_new(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Read the units anew; restart what changed, start what does not run. Raises StepError."""
    run(["systemctl", "daemon-reload"])
    known, wanted = stamps(before), stamps(after)
    changed = [name for name, stamp in wanted.items() if known.get(name, stamp) != stamp]
    started = [name for name in wanted if name not in changed]
    for verb, names in (("restart", changed), ("start", started)):
        if names:
            try:
                run(["systemctl", verb, *names])
            except StepError as fault:
                raise StepError(f"{fault}\n{journal(names)}") from fault


def failed(manifest: Mapping[str, Any]) -> list[str]:
    """Return the units of a generation that are not running."""
    bad = []
    for name in stamps(manifest):
        state = run(["systemctl", "show", "-P", "ActiveState", name]).strip()
        if state not in {"active", "activating", "reloading"}:
            bad.append(name)
    return bad


def journal(names: list[str]) -> str:
    """Return the last words of units that failed."""
    with contextlib.suppress(StepError):
        units = [word for name in names for word in ("-u", name)]
        return run(["journalctl", "-b", "-n", "8", "-o", "cat", "--no-pager", *units]).strip()
    return ""
