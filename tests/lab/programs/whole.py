"""Say which generation a machine runs, and where it is not exactly that one; one line of JSON."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = Path("/var/lib/clan")


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def files(manifest: dict[str, Any]) -> Iterator[str]:
    wanted = {file["path"]: file["sha256"] for file in manifest.get("files", ())}
    for place, digest in wanted.items():
        path = Path(place)
        if not path.is_symlink():
            yield f"{path} is no link"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield f"{path} is another generation's"
    if (STATE / "touched.json").exists():
        for place in json.loads((STATE / "touched.json").read_text())["links"]:
            if place not in wanted and Path(place).is_symlink():
                yield f"{place} is left"


def units(manifest: dict[str, Any]) -> Iterator[str]:
    for unit in manifest.get("units", ()):
        name = unit["name"]
        text = (STATE / "current/units" / name).read_text()
        shown = dict(
            line.split("=", 1)
            for line in said("systemctl", "show", name).splitlines()
            if "=" in line
        )
        if unit["start"] and shown["ActiveState"] not in {"active", "activating"}:
            yield f"{name} is {shown['ActiveState']}"
        path = shown.get("FragmentPath")
        if not path or Path(path).read_text() != text or shown["NeedDaemonReload"] == "yes":
            yield f"systemd has another {name}"
    names = {unit["name"] for unit in manifest.get("units", ())}
    for line in said("systemctl", "list-units", "--all", "--plain", "--no-legend").splitlines():
        name, _, state, *_ = line.split()
        if name.startswith("story-") and name not in names and state != "inactive":
            yield f"{name} is still {state}"


def names(manifest: dict[str, Any]) -> Iterator[str]:
    text = Path("/etc/hosts").read_text()
    block = re.findall(r"^# begin clan.*\n((?:.*\n)*?)# end clan", text, re.MULTILINE)
    wanted = manifest.get("hosts", ())
    hosts = "".join(f"{address}\t{' '.join(found)}\n" for address, found in wanted)
    if block != ([hosts] if hosts else []):
        yield f"/etc/hosts has {block}"


def firewall(manifest: dict[str, Any]) -> Iterator[str]:
    wants = manifest.get("nftables", "")
    has = said("nft", "list", "table", "inet", "clan")
    ports = [set(re.findall(r"dport (\d+)", text)) for text in (wants, has)]
    if ports[0] != ports[1] or bool(wants) != bool(has):
        yield f"the firewall opens {ports[1]}"


def main() -> None:
    current, confirmed = ((STATE / name).readlink().name for name in ("current", "confirmed"))
    manifest = json.loads((STATE / "current/manifest.json").read_text())
    failed = said("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    parts = (files, units, names, firewall)
    found = {
        "current": int(current),
        "confirmed": int(confirmed),
        "wrong": [fault for part in parts for fault in part(manifest)],
        "failed": failed.splitlines(),
    }
    sys.stdout.write(json.dumps(found))


main()
