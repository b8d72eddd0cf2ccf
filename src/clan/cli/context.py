"""temporary"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clan.model.clan import Clan


def load_clan(clan_option: str | None) -> Clan:
    from clan.inventory.find import find_clan
    from clan.inventory.load import load
    from clan.inventory.registry import Registry
    from clan.inventory.resolve import resolve

    path = find_clan(clan_option, os.environ, Path.cwd())
    inv = load(path)
    return resolve(inv, Registry(path.parent))
