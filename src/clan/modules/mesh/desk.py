"""A mesh's maps in an admin's hands: what the folder has, what machines told, what is to be signed.

It refuses to sign where that would do what nobody decided: a fork is merged only on request, and so
is a machine removed that another admin's map has and this folder never knew.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.mesh.chart import chart as charts
from clan.mesh.chart import links
from clan.mesh.chart.accept import Held, Outcome, accept
from clan.mesh.chart.forks import State
from clan.mesh.errors import MeshError
from clan.mesh.identity import Key, born, read
from clan.modules.mesh import keys
from clan.modules.mesh.content import content
from clan.modules.mesh.kept import SHOWN, Kept, mesh_errors_told
from clan.modules.mesh.signing import Pen, following
from clan.system.places import config_home

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clan.mesh.chart.carry import Told
    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.content import Content
    from clan.model.clan import Clan, Instance
    from clan.vars.store import Store


def key_file(environ: Mapping[str, str]) -> Path:
    """Return where this user's key for maps is, `$XDG_CONFIG_HOME/clan/mesh.key`."""
    return config_home(environ) / "mesh.key"


def own_key(environ: Mapping[str, str], *, make: bool = False) -> Key | None:
    """Return this user's key for maps, or None; made where there is none, if asked. ClanError."""
    path = key_file(environ)
    with mesh_errors_told():
        try:
            return born(path) if make else read(path)
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise ClanError(f"cannot be read: {fault.strerror}", where=str(path)) from None


def pen(key: Key) -> Pen:
    """Return what signing takes, now."""
    return Pen(key=key, now=int(time.time()), fresh=os.urandom(32))


@dataclass(slots=True)
class Desk:
    """The maps of one mesh. `begin` reads them; `hear` adds what a machine told."""

    instance: Instance
    clan: Clan
    kept: Kept
    first_root: bytes
    held: Held
    unread: dict[str, ClanError]
    records: dict[bytes, bytes] = field(default_factory=dict)

    @classmethod
    def begin(cls, instance: Instance, clan: Clan, store: Store) -> Desk:
        """Read what the folder has. Raises ClanError where there is no root, or no map."""
        kept = Kept(store=store, instance=instance.name)
        found = kept.maps()
        made = cls(
            instance=instance,
            clan=clan,
            kept=kept,
            first_root=kept.first_root(),
            held=found.held,
            unread=dict(found.unread),
        )
        for each in found.held.maps:
            made._know(each)
        return made

    def _know(self, chart: Chart) -> None:
        """Note that a map is known, and with it those that it comes from."""
        for hash_ in (chart.hash, *(place.hash for place in chart.line)):
            self.unread.pop(hash_.hex()[:SHOWN], None)

    def hear(self, told: Told) -> list[str]:
        """Take in what a machine told; return what of it was not to be had, in words."""
        wrong = []
        for raw in told.maps:
            try:
                heard = charts.read(raw, self.first_root, self.held.top)
            except MeshError as fault:
                wrong.append(f"it told a map that is none: {fault}")
                continue
            self._know(heard)
            verdict = accept(self.held, heard)
            self.held = verdict.held
            if verdict.outcome is Outcome.REFUSED:
                wrong.append(verdict.reason)
        for who, raw in told.records.items():
            try:
                links.read(raw, who)
            except MeshError as fault:
                wrong.append(str(fault))
                continue
            self.records[who] = links.newer(self.records.get(who, b""), raw)
        return wrong

    def wanted(self) -> Content:
        """Return what the map is to say by the clan's file. Raises ClanError."""
        with mesh_errors_told():
            return content(
                self.instance,
                self.clan,
                self.kept.store,
                first_root=self.first_root,
                before=self.held.view.content,
                records=self.records,
            )

    def update(self, key: Key | None) -> Chart | None:
        """Sign the next map if the clan's file says something new; None if not.

        Raises ClanError where it cannot be, for a fork, and where somebody would be removed whom
        only another admin's map has.
        """
        self.refuse_unread()
        state = self.held.view.state
        if state in {State.FORKED, State.DISPUTED}:
            raise ClanError(
                f"the map of the mesh {self.instance.name} is forked, so none is signed",
                hint=f"`clan mesh map --network {self.instance.name}` shows how; "
                f"{self.cure(state)}",
            )
        wanted = self.wanted()
        strange = self.strangers(wanted)
        if strange:
            raise ClanError(
                f"{self.held.top} has {', '.join(strange)}, and the clan's file here does not, so "
                "no map is signed",
                hint="get the folder's latest state from who signed it, or have them removed by "
                f"`clan mesh merge --network {self.instance.name}`",
            )
        return self.sign(wanted, key)

    def strangers(self, wanted: Content) -> list[str]:
        """Return the machines that would be removed without the folder ever having known them.

        An identity that was ever known here is still among the vars, also of a machine that is gone
        from the clan's file.
        """
        public, name = self.kept.store.public, self.instance.name
        return [
            each.name
            for each in self.held.view.content.machines
            if each.identity not in wanted.identities
            and public(keys.identity_var(name, each.name)) is None
        ]

    def cure(self, state: State) -> str:
        """Say what makes one map of a fork."""
        words = "merge" if state is State.FORKED else "epoch"
        return f"`clan mesh {words} --network {self.instance.name}` makes one of them"

    def sign(self, wanted: Content, key: Key | None) -> Chart | None:
        """Sign the next map and take it in; None if the one in force says it. Raises ClanError."""
        self.refuse_unread()
        with mesh_errors_told():
            made = following(self.held, wanted, None if key is None else pen(key))
            if made is not None:
                self.take(made)
        return made

    def take(self, made: Chart) -> None:
        """Have a map that was just signed be the one in force."""
        self.held = accept(self.held, made).held

    def keep(self) -> None:
        """Write what is held to the folder, where all of it could be read. The clan is locked."""
        if not self.unread:
            self.kept.keep(self.held.maps)

    def refuse_unread(self) -> None:
        """Raise ClanError if the folder has a map that neither this admin nor a machine told."""
        for fault in self.unread.values():
            raise ClanError(
                f"a map of the mesh {self.instance.name} cannot be read, so none is signed: "
                f"{fault.message}",
                where=fault.where,
                hint="an admin who can read it runs `clan machines update`, which encrypts it to "
                "all admins of now",
            )
