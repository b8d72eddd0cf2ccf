"""Puts onto a lab's machine what a plan has of packages, files and units, as a person would."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from clan.model.exports import Var
from clan.model.generator import Inputs
from clan.model.plan import File, Package, Unit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.lab.lab import Lab
    from clan.model.generator import Generator
    from clan.model.plan import Resource
    from clan.vars.store import Store


def generate(store: Store, generators: Iterable[Generator]) -> None:
    """Make all values, and keep them in the clear."""
    for generator in generators:
        assert callable(generator.make)
        made = generator.make(Inputs(prompts={}, files={}))
        for name, value in made.items():
            path = store.place(generator.machine, generator.name) / name / "value"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(value)


def put(lab: Lab, machine: str, resources: Iterable[Resource], store: Store) -> None:
    """Install, write and start."""
    wanted = list(resources)
    packages = [each.name for each in wanted if isinstance(each, Package)]
    # Debian's own Tor is of the public network, and would start with the package.
    script = [f"systemctl mask --quiet {name}.service" for name in packages]
    script += ["apt-get -q update", f"apt-get -q install -y {' '.join(packages)}"]
    for each in wanted:
        if isinstance(each, File):
            content = each.content
            data = store.value(content) if isinstance(content, Var) else content
            assert data is not None
            script.append(
                f"install -D -m {each.mode:o} -o {each.owner} -g {each.group} /dev/null {each.path}"
            )
            script.append(f"echo {base64.b64encode(data).decode()} | base64 -d >{each.path}")
        elif isinstance(each, Unit):
            text = base64.b64encode(each.text.encode()).decode()
            script.append(f"echo {text} | base64 -d >/etc/systemd/system/{each.name}")
            script += ["systemctl daemon-reload", f"systemctl enable --now --quiet {each.name}"]
    lab.exec(machine, ["sh", "-e", "-s"], text="\n".join([*script, ""]))
