"""Where things of a mesh are on a machine. It imports nothing: each login of the admin's looks.

/etc/clan/mesh/INSTANCE.json     what the generation tells the agent (`agent.setting`)
/var/lib/clan/mesh/INSTANCE/     what it keeps: maps, records, its interfaces' keys
/run/clan/mesh-INSTANCE.*        its socket and its journal
"""

from __future__ import annotations

SETTINGS = "etc/clan/mesh"
STATE = "var/lib/clan/mesh"
RUN = "run/clan"
OPENED, RELAY_OPENED = "opened.json", "relay-opened.json"
"""In the folder of the state: what was opened in others' firewalls, for links and as a relay."""


def setting_file(instance: str) -> str:
    """Return where an instance's setting is."""
    return f"/{SETTINGS}/{instance}.json"
