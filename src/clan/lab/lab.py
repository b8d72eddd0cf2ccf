"""A lab on this computer: up, down, and what can be done to it while it is up."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from clan.errors import LabError, UsageError, did_you_mean
from clan.lab import agent, built, cuts, image, machine, network, place, proc, topology, tor
from clan.lab.addresses import plan
from clan.lab.config import ADMIN
from clan.lab.machine import Unit
from clan.lab.processes import Runner, require
from clan.lab.state import State, boot_id, require_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from clan.lab.addresses import SiteAddresses
    from clan.lab.config import LabConfig
    from clan.lab.cuts import Cut, Table
    from clan.lab.image import Image

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_WANTED = 4096
"""Every machine's systemd takes a dozen of the computer's, whose default is 128 for all of root."""

_PROGRAMS = ("ip", "tc", "nft", "dnsmasq", "nsenter", "systemd-nspawn", "ssh-agent", "ssh-keygen")
_BOOT_PATIENCE = 60.0
_POLL = 0.05
_CARRIER_GAP = 0.1
"""Seconds a moved cable is out: a shorter gap is not seen by the machine at all."""


def _silent(step: str) -> None:
    """Report nothing."""
    del step


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A lab that is up. As a context it takes itself down at the end.

    Commands run in it are real processes on real machines; what they return is theirs. Methods that
    change the lab hold its lock, so that two never change it at once.
    """

    state: State
    config: LabConfig
    clan_dir: Path
    """The clan's folder: its path is the same at the admin's place and on machines with `clan`."""

    @classmethod
    def up(
        cls,
        config: LabConfig,
        *,
        name: str,
        clan_dir: Path,
        report: Callable[[str], None] = _silent,
    ) -> Self:
        """Bring a lab up and return it once every machine answers and has its addresses.

        What an interrupted `up` left is taken away first. A lab that is up already only has its
        stopped machines started.

        Raises PrivilegeError unless root, MissingProgramError, and LabError when the image is
        missing, the lab is up with another configuration, or a machine does not boot within 60 s.
        """
        require_root()
        lab = cls(state=State(name=name), config=config, clan_dir=clan_dir.resolve())
        require((*_PROGRAMS, *tor.PROGRAMS) if config.tor else _PROGRAMS)
        found = {release: image.find(release) for release in releases(config)}
        with lab.state.locked() as lock:
            run = Runner(lock=lock)
            if lab.state.is_up():
                lab._check_same()
                lab._boot(found, [unit for unit in lab.units() if unit.leader() is None], report)
                return lab
            lab.state.remove()
            try:
                lab._make(found, run, report)
            except BaseException:
                lab.state.remove()
                raise
        return lab

    @classmethod
    def open(cls, name: str) -> Self:
        """Return a lab that is up, by its name. Raises LabError when there is none."""
        require_root()
        state = State(name=name)
        recorded = state.recorded()
        if recorded is None or not state.is_up():
            raise LabError(
                f"the lab {name!r} is not up", hint=f"bring it up with `clan lab up --name {name}`"
            )
        config, clan_dir = recorded
        return cls(state=state, config=config, clan_dir=clan_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def down(self) -> None:
        """Take the lab away with all that runs in it; nothing of it stays."""
        down(self.state.name)

    def units(self) -> list[Unit]:
        """Return the lab's machines, in the order of its file."""
        return [
            Unit(name=name, number=number, machine=machine, state=self.state)
            for number, (name, machine) in enumerate(self.config.machines.items())
        ]

    def unit(self, name: str) -> Unit:
        """Return a machine by its name. Raises UsageError when there is none."""
        for unit in self.units():
            if unit.name == name:
                return unit
        near = did_you_mean(name, self.config.machines)
        raise UsageError(f"there is no machine {name!r} in the lab", hint=near)

    def run(
        self, argv: Sequence[str], *, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command at the admin's place, in the clan's folder, and return what it printed.

        `text` is its input. With `check`, raises subprocess.CalledProcessError when it fails.
        """
        return subprocess.run(
            place.at_admin(self.state, argv),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            env=self.environment(),
            cwd=self.clan_dir,
            capture_output=True,
            text=True,
            check=check,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment of commands at the admin's place."""
        return place.environment(self.state, self.clan_dir, os.environ)

    def exec(
        self, name: str, argv: Sequence[str], *, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a machine, past its network, and return what it printed.

        On a machine with `clan = true` it runs in the clan's folder with the lab's variables set.
        `text` is its input. With `check`, raises subprocess.CalledProcessError when it fails.
        """
        return subprocess.run(
            self.command_on(name, argv),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            check=check,
        )

    def command_on(self, name: str, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        """Return the command that runs `argv` on a machine. Raises LabError when it is not running.

        With `tty` it gets a terminal of the machine's own.
        """
        unit = self.unit(name)
        leader = unit.leader()
        if leader is None:
            hint = "`clan lab up` starts the machines that are stopped"
            raise LabError(f"the machine {name!r} is not running", hint=hint)
        if not unit.machine.clan:
            return place.on_machine(leader, argv, tty=tty)
        extra = place.variables(self.state, self.clan_dir)
        return place.on_machine(leader, argv, tty=tty, folder=str(self.clan_dir), extra=extra)

    def host_key(self, name: str) -> str:
        """Return a machine's public SSH host key: its type and its base64."""
        public = self.unit(name).folder / "upper/etc/ssh/ssh_host_ed25519_key.pub"
        return " ".join(public.read_text().split()[:2])

    def site_of(self, name: str) -> str:
        """Return the site at which a machine, or the admin, is now."""
        if name == ADMIN:
            return (self.state.folder / "admin-site").read_text()
        bridge = (self.unit(name).folder / "bridge").read_text()
        sites = {topology.bridge_of(own): site for site, own in self.addresses().items()}
        return sites[bridge]

    def move(self, name: str, site: str) -> None:
        """Re-plug a running machine, or the admin, into the LAN of another site.

        A machine sees its cable go and return, and asks for an address itself; the admin has one
        at once. Raises UsageError when there is no such machine or site.
        """
        if site not in self.config.sites:
            near = did_you_mean(site, self.config.sites)
            raise UsageError(f"there is no site {site!r} in the lab", hint=near)
        cable, own = self._cable(name), self.addresses()[site]
        bridge, switches = topology.bridge_of(own), topology.switches_of(self.state.name)
        with self._changing() as run:
            if name == ADMIN:
                self._place_admin(site, run)
                return
            unit = self.unit(name)
            unit.plug(bridge)
            if unit.leader() is not None:
                network.ip(switches, [f"link set {cable} down"], run)
                time.sleep(_CARRIER_GAP)
                network.ip(switches, [f"link set {cable} master {bridge} up"], run)

    def cut(self, cut: Cut, *, carrier: bool = False) -> None:
        """Make a cut: what it names is dropped in silence from now on, until restored.

        With `carrier` a machine's or the admin's cable is pulled instead, so that it notices.
        Raises UsageError when what it names is not in the lab or has no cable.
        """
        table, device = self._where(cut.what)
        with self._changing() as run:
            if not carrier:
                table.add(cut, device, run)
            elif cut.what in self.config.sites:
                raise UsageError("a site's uplink has no carrier to lose", hint="cut it without")
            elif cut != cuts.Cut(what=cut.what):
                raise UsageError("a cable is pulled for all its traffic")
            else:
                network.ip(table.namespace, [f"link set {device} down"], run)

    def restore(self, what: str | None = None) -> None:
        """Undo every cut of a machine, a site or the admin; of all when `what` is None.

        Raises UsageError when what it names is not in the lab.
        """
        with self._changing() as run:
            if what is not None:
                self._where(what)
            for table in self._tables():
                table.remove(what, run)
            pulled = self.pulled() if what is None else self.pulled() & {what}
            lines = [f"link set {self._cable(name)} up" for name in pulled]
            network.ip(topology.switches_of(self.state.name), lines, run)

    def cuts(self) -> list[Cut]:
        """Return all cuts in force but pulled cables."""
        run = Runner()
        return [cut for table in self._tables() for cut in table.cuts(run)]

    def pulled(self) -> set[str]:
        """Return the machines, or the admin, whose cable is pulled."""
        down = network.links_down(topology.switches_of(self.state.name), Runner())
        cables = {unit.cable: unit.name for unit in self.units()} | {topology.ADMIN_CABLE: ADMIN}
        return {name for cable, name in cables.items() if cable in down}

    def _make(self, found: Mapping[int, Image], run: Runner, report: Callable[[str], None]) -> None:
        """Make everything, of which nothing is there."""
        report(f"laying the networks of {len(self.config.sites)} site(s)")
        self.state.record(self.config, self.clan_dir)
        folders = (self.state.daemons, self.state.agent.parent, self.state.mount)
        for folder in (*folders, *self.state.private.values()):
            folder.mkdir()
        place.install(self.state)
        built.lend(self.state)
        for group in ("daemons", place.RUNS):
            self.state.group.child(group).make()
        if int(_INOTIFY.read_text()) < _INOTIFY_WANTED:
            _INOTIFY.write_text(str(_INOTIFY_WANTED))
        agent.begin(self.state)
        repositories = self.state.folder / "repositories"
        repositories.mkdir()
        for release, each in found.items():
            (repositories / str(release)).symlink_to(each.repository)
        wanted = topology.build(self.state.name, self.config, str(repositories))
        daemons = network.apply(wanted, self.state, run)
        if self.config.tor:
            daemons |= tor.start(self.state, run)
        self._place_admin(self.config.admin, run)
        authorised = agent.add_key(self.state, run)
        tokens, sites = plan(self.config).tokens, self.addresses()

        def prepare(unit: Unit) -> None:
            ipv6 = self.config.sites[unit.machine.site].has_v6
            own = found[unit.machine.debian]
            machine.prepare(unit, own, authorised, tokens[unit.name], run, ipv6=ipv6)
            unit.plug(topology.bridge_of(sites[unit.machine.site]))

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(prepare, self.units()))
        network.check(daemons, self.state)
        self._boot(found, self.units(), report)
        if self.config.tor:
            report("waiting for the Tor network's first consensus")
            tor.wait(self.state)
        network.check(daemons, self.state)
        draft = self.state.folder / "complete.new"
        draft.write_text(boot_id())
        draft.rename(self.state.complete)

    def _boot(
        self, found: Mapping[int, Image], units: list[Unit], report: Callable[[str], None]
    ) -> None:
        """Start machines, all at once, and wait until each of them answers."""
        if not units:
            return
        report(f"starting {len(units)} machine(s)")
        for unit in units:
            machine.boot(
                unit,
                found[unit.machine.debian],
                topology.switches_of(self.state.name),
                self.clan_dir,
            )
        deadline = time.monotonic() + _BOOT_PATIENCE
        waiting = dict.fromkeys(units)
        while waiting:
            for unit in list(waiting):
                if self._is_ready(unit):
                    del waiting[unit]
                    report(f"{unit.name} is up ({len(units) - len(waiting)} of {len(units)})")
            if waiting and time.monotonic() > deadline:
                self._give_up(next(iter(waiting)))
            time.sleep(_POLL)

    def _is_ready(self, unit: Unit) -> bool:
        """Return whether a machine takes SSH and has the addresses that its site gives."""
        leader = unit.leader()
        if leader is None or not proc.listens(leader, 22):
            return False
        site = self.config.sites[self.site_of(unit.name)]
        v4, v6 = proc.addresses(leader)
        return bool(v4 or not site.has_v4) and bool(v6 or not site.has_v6)

    def _give_up(self, unit: Unit) -> None:
        console = unit.log.read_text(errors="replace").splitlines()[-5:]
        raise LabError(
            f"{unit.name} did not come up within {_BOOT_PATIENCE:.0f} s:\n" + "\n".join(console)
        )

    def _check_same(self) -> None:
        """Raise LabError when the lab that is up is not the one that is wanted."""
        if self.state.recorded() != (self.config, self.clan_dir):
            raise LabError(
                f"the lab {self.state.name!r} is up with another lab.toml or clan",
                hint="take it down first: `clan lab down`",
            )

    def _place_admin(self, site: str, run: Runner) -> None:
        """Make the admin's computer one of a site's, as its resolver says too."""
        own = self.addresses()[site]
        cable = f"link set {topology.ADMIN_CABLE} master {topology.bridge_of(own)} up"
        network.ip(topology.switches_of(self.state.name), [cable], run)
        network.ip(topology.admin_of(self.state.name), topology.place_admin(own), run)
        # Written in place: commands that run have this very file mounted.
        self.state.resolver.write_text(topology.resolver_at(own))
        (self.state.folder / "admin-site").write_text(site)

    def addresses(self) -> Mapping[str, SiteAddresses]:
        """Return each site's addresses, by the site's name."""
        return plan(self.config).sites

    def _cable(self, name: str) -> str:
        return topology.ADMIN_CABLE if name == ADMIN else self.unit(name).cable

    def _where(self, what: str) -> tuple[Table, str]:
        """Return the table for a cut, and the device. Raises UsageError for an unknown name."""
        internet, switches = self._tables()
        if what in self.config.sites:
            return internet, topology.uplink_of(self.addresses()[what])
        if what == ADMIN or what in self.config.machines:
            return switches, self._cable(what)
        near = did_you_mean(what, [*self.config.machines, *self.config.sites, ADMIN])
        raise UsageError(f"{what!r} is neither a machine nor a site of the lab", hint=near)

    def _tables(self) -> tuple[Table, Table]:
        """Return the tables of cuts: the uplinks' and the cables'."""
        name = self.state.name
        return (
            cuts.Table(namespace=topology.internet_of(name), family="inet"),
            cuts.Table(namespace=topology.switches_of(name), family="bridge"),
        )

    @contextmanager
    def _changing(self) -> Iterator[Runner]:
        """Hold the lab's lock, with a runner whose steps hold it too."""
        with self.state.locked() as lock:
            if not self.state.is_up():
                raise LabError(f"the lab {self.state.name!r} is not up any more")
            yield Runner(lock=lock)


def down(name: str) -> None:
    """Take a lab away, whatever state it is in; one that is not there is down already.

    Raises PrivilegeError unless root, and LabError when one of its processes cannot be ended.
    """
    require_root()
    state = State(name=name)
    with state.locked():
        state.remove()


def releases(config: LabConfig) -> list[int]:
    """Return the releases of Debian that a lab's machines run, the usual one in any case."""
    return sorted({image.OLDEST, *(machine.debian for machine in config.machines.values())})
