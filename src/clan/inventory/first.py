"""The first clan file: what `clan init` writes, with what a person needs to know next to it."""

from __future__ import annotations

import json
import re

from clan.errors import UsageError
from clan.inventory.document.write import nix_value, toml_string
from clan.model import names

LANGUAGES = ("toml", "json", "nix")

_TOML = """\
# Your clan: its machines, and the services that run on them.
# `clan check` says whether it is right, `clan show` what it amounts to.

[meta]
name = {name}
{domain}
# A machine is a table like this. `clan machines create laptop --tag home`
# writes one for you. The target host is where it is found before there is a
# network.
#
# [machines.laptop]
# tags = ["home"]
# deploy.targetHost = "root@192.168.1.20"

# A service is an instance of a module; its roles say which machines take part.
# `clan instances add tor --role server:tag=all` writes this one, which makes
# every machine reachable through Tor, wherever it is.
#
# [instances.tor]
# roles.server.tags.all = {{}}
"""

_NIX = """\
# Your clan: its machines, and the services that run on them.
# `clan check` says whether it is right, `clan show` what it amounts to.
{{
  meta.name = {name};
{domain}
  # A machine. The target host is where it is found before there is a network.
  #
  # machines.laptop = {{
  #   tags = [ "home" ];
  #   deploy.targetHost = "root@192.168.1.20";
  # }};

  # A service is an instance of a module; its roles say which machines take part.
  # This one makes every machine reachable through Tor, wherever it is.
  #
  # instances.tor.roles.server.tags.all = {{ }};
}}
"""


def first_file(name: str, language: str) -> bytes:
    """Return a clan file without machines; a domain is added where the name cannot be one."""
    if not name.strip() or not name.isprintable():
        raise UsageError(f"{name!r} is no name for a clan", hint="`--name NAME` gives one")
    domain = None if names.is_domain(name) else _slug(name)
    note = "what follows the dot in the full names of machines"
    match language:
        case "json":
            meta = {"name": name} | ({"domain": domain} if domain else {})
            shape = {"meta": meta, "machines": {}, "instances": {}}
            return (json.dumps(shape, indent=2, ensure_ascii=False) + "\n").encode()
        case "nix":
            line = f"  meta.domain = {nix_value(domain)}; # {note}\n" if domain else ""
            return _NIX.format(name=nix_value(name), domain=line).encode()
        case _:
            line = f"domain = {toml_string(domain)}  # {note}\n" if domain else ""
            return _TOML.format(name=toml_string(name), domain=line).encode()


def _slug(name: str) -> str:
    """Return a domain that resembles the name: `The Smiths` is `the-smiths`."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:63].strip("-")
    return slug or "clan"
