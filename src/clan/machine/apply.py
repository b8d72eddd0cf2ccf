"""Make a machine what a generation says: each part compares and changes only what differs.

`apply` may be repeated, and interrupted: run again, it ends in the same place.
"""

from __future__ import annotations

import pwd
import shutil
from typing import TYPE_CHECKING, Any

from clan.machine import blockers, firewalls, parameters, units
from clan.machine.blocks import set_block
from clan.machine.files import own, place_files
from clan.machine.keys import choose_keys
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clan.machine.layout import Layout

TABLE = "clan"
"""Of nftables, family inet: ours alone."""


def apply(
    layout: Layout,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    booting: bool = False,
    going_back: bool = False,
) -> None:
    """Go from what one manifest says to another's. Raises StepError.

    While the machine boots there is no network yet, and systemd starts units and links itself.
    Then, and going back, one part that fails does not keep the others from being done: going
    forward it ends all, as it is undone. Who goes back has stopped the old units before.
    """
    steps: list[Callable[[], object]] = [
        lambda: choose_keys(layout, after),
        lambda: make_users(after),
        lambda: decrypt(layout, after),
        lambda: place_files(layout, after),
        lambda: set_blocks(layout, after),
        lambda: parameters.set_all(layout, after.get("sysctl", ())),
        lambda: set_firewall(before, after, booting=booting),
        lambda: firewalls.settle(layout.opened, firewalls.openings(after)),
    ]
    if not booting:
        if not going_back:
            steps.insert(3, lambda: units.stop_old(before, after))
        steps.append(lambda: set_links(before, after))
        steps.append(lambda: units.start_new(before, after))
    faults = []
    for step in steps:
        try:
            step()
        except (StepError, OSError) as fault:
            if not (booting or going_back):
                raise
            faults.append(str(fault))
    if faults:
        raise StepError("\n".join(faults))


def decrypt(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Have exactly a generation's secrets in the clear, in memory. Raises StepError.

    They are decrypted beside the old ones and swapped in, so that a failure leaves those.
    """
    wanted = [file for file in manifest.get("files", ()) if "secret" in file]
    fresh, old = (layout.run / f"secrets.{name}" for name in ("new", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o711)
    for file in wanted:
        clear = fresh / file["secret"]
        sealed = layout.generation(manifest["number"]) / "secrets" / f"{file['secret']}.age"
        identity = str(layout.own / "age.key")
        run(["age", "--decrypt", "-i", identity, "-o", str(clear), str(sealed)])
        clear.chmod(0o400)
        own(clear, file)
    if layout.secrets.exists():
        layout.secrets.rename(old)
    fresh.rename(layout.secrets)
    shutil.rmtree(old, ignore_errors=True)


def make_users(manifest: Mapping[str, Any]) -> None:
    """Make the system users that are not there. They stay: files may be theirs."""
    for user in manifest.get("users", ()):
        try:
            pwd.getpwnam(user["name"])
        except KeyError:
            words = ["useradd", "--system", "--user-group", "--home-dir", user["home"]]
            words += ["--shell", "/usr/sbin/nologin"]
            if user["groups"]:
                words += ["--groups", ",".join(user["groups"])]
            run([*words, user["name"]])


def set_blocks(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Write our lines of /etc/hosts, of the known hosts and of root's authorized keys."""
    hosts = [f"{address}\t{' '.join(names)}" for address, names in manifest.get("hosts", ())]
    known = [f"{','.join(host['names'])} {host['key']}" for host in manifest.get("known_hosts", ())]
    set_block(layout.root / "etc/hosts", hosts)
    set_block(layout.root / "etc/ssh/ssh_known_hosts", known)
    folder = layout.root / "root/.ssh"
    keys = manifest.get("authorized_keys", ())
    if keys:
        folder.mkdir(mode=0o700, exist_ok=True)
    set_block(folder / "authorized_keys", keys, mode=0o600)


def set_firewall(
    before: Mapping[str, Any], after: Mapping[str, Any], *, booting: bool = False
) -> None:
    """Replace our table in one transaction; without rules there is none."""
    ruleset = after.get("nftables", "")
    if not ruleset and (booting or not before.get("nftables") or shutil.which("nft") is None):
        return
    # Declared first, so that deleting it works where it is not there.
    text = f"table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\n{ruleset}"
    run(["nft", "-f", "-"], stdin=text.encode())


def set_links(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Have a generation's links, and none that only the one before had. Raises StepError."""
    if not (before.get("links") or after.get("links")):
        return
    from clan.machine import wireguard

    wanted = {link["name"] for link in after.get("links", ())}
    for link in before.get("links", ()):
        if link["name"] not in wanted:
            wireguard.remove(link["name"])
    for link in after.get("links", ()):
        wireguard.apply(link)


def check(manifest: Mapping[str, Any]) -> None:
    """Run a generation's health checks. Raises StepError with all that is wrong, in words."""
    wrong = [*_not_running(manifest), *blockers.find(manifest)]
    for health in manifest.get("checks", ()):
        try:
            run(health["command"], limit=health["limit"])
        except StepError as fault:
            wrong.append(f"{health['name']}: {fault}")
    if wrong:
        raise StepError("\n".join(wrong))


def check_units(manifest: Mapping[str, Any]) -> None:
    """See whether a generation's units run. Raises StepError with those that do not."""
    wrong = _not_running(manifest)
    if wrong:
        raise StepError("\n".join(wrong))


def _not_running(manifest: Mapping[str, Any]) -> list[str]:
    return [f"{name} is not running: {units.journal([name])}" for name in units.failed(manifest)]
