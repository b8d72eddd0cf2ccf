"""The agent of an interface with several controllers: observe, step, act.

On a peer it asks the controllers, tells which it lost, and has a live one carry the subnet of a
dead one (`watch`). On a controller it passes on what peers lost (`board`). What it knows it leaves
in a file: killed, all stays as it is; started again, it goes on from there. With a new generation
it becomes that generation's program, in the same process.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from clan.machine.layout import CURRENT, PROGRAM
from clan.machine.system import StepError
from clan.machine.wireguard import board, carriers, watch
from clan.machine.wireguard.carriers import Known
from clan.machine.wireguard.link import Link
from clan.machine.wireguard.voice import Voice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.machine.layout import Layout

TICK = 0.4
"""Seconds between looks whether something is sent."""
CALM = 5.0
"""Seconds between looks of a controller to whom nobody says anything."""
MISSING = 1.0
"""Seconds between looks for an interface that is not there."""


def carry(layout: Layout, name: str) -> NoReturn:
    """Run for as long as the process does."""
    said = ""
    while True:
        number = layout.chosen(CURRENT)
        shapes = {each["name"]: each for each in layout.manifest(number).get("links", ())}
        if name in shapes:
            try:
                with contextlib.closing(Voice(name)) as voice:
                    said = ""
                    _follow(layout, number, Link.of(shapes[name]), voice)
            except OSError as fault:
                if str(fault) != said:
                    _say(f"{name}: {fault}")
                said = str(fault)
        time.sleep(MISSING)
        _become(layout, number)


def _become(layout: Layout, number: int) -> None:
    """Be the program of the generation that runs, if that is another now."""
    program = layout.state / CURRENT / PROGRAM
    if layout.chosen(CURRENT) != number and program.exists():
        words = [sys.executable, "-I", str(program), *sys.argv[1:]]
        os.execv(sys.executable, words)  # noqa: S606 (it is to be this process)


def _follow(layout: Layout, number: int, link: Link, voice: Voice) -> None:
    """Do an interface's work until it is another one. Raises OSError when it goes."""
    known = Known.read(link.name)
    is_controller = {each.name for each in link.carriers} - {
        peer.name for peer in link.peers.values()
    }
    work: _Peer | _Controller = (
        _Controller(link, voice, known) if is_controller else _Peer(link, voice, known)
    )
    while True:
        select.select([voice.echo, voice.words], [], [], work.wait())
        if work.turn():
            _become(layout, number)
            if socket.if_nametoindex(link.name) != voice.index:
                return


class _Peer:
    """A peer's part."""

    def __init__(self, link: Link, voice: Voice, known: Known) -> None:
        self.link, self.voice, self.since = link, voice, dict(known.since)
        self.at = {each.address: each.name for each in link.carriers}
        names = self.at.values()
        now = time.monotonic()
        self.watch = watch.Watch(
            sights={
                name: watch.Sight(lost=True, since=now, patience=watch.PATIENCE)
                if name in known.lost
                else watch.Sight()
                for name in names
            },
            told={who: frozenset(what) for who, what in known.told.items()},
            tell_at=(now,) if known.since else (),
        )
        self.busy, self.looked, self.ours = False, now, 0
        self.packets = voice.packets("tx")

    def wait(self) -> float:
        """Return the seconds until something is to be done."""
        now = time.monotonic()
        look = watch.Look(now=now, busy=self.busy)
        times = [self.looked + TICK, self.watch.asked + watch.interval(self.watch, look)]
        return max(0.0, min([*times, *self.watch.tell_at[:1]]) - now)

    def turn(self) -> bool:
        """Look, think, do; return whether it was time to look at the rest too."""
        now = time.monotonic()
        ticked = now - self.looked >= TICK
        if ticked:
            packets = self.voice.packets("tx")
            self.busy = packets - self.packets > self.ours
            self.packets, self.looked, self.ours = packets, now, 0
        answers = [
            (self.at[address], number)
            for address, number in self.voice.answers()
            if address in self.at
        ]
        heard = [
            (self.at[address], names) for address, names in self.voice.heard() if address in self.at
        ]
        before = (self.watch.lost, self.watch.told)
        self.watch, acts = watch.step(
            self.watch,
            watch.Look(now=now, busy=self.busy, answers=tuple(answers), heard=tuple(heard)),
        )
        if self.watch.dead != self.since.keys() or before != (self.watch.lost, self.watch.told):
            self._steer(acts.lines)
        for each in self.link.carriers:
            if acts.ask is not None:
                self.ours += self.voice.ask(each.address, acts.ask)
            if acts.tell and each.name not in self.watch.lost:
                self.ours += self.voice.tell(each.address, self.watch.lost)
        return ticked

    def _steer(self, lines: tuple[str, ...]) -> None:
        """Have the live carry what the dead did, and say so."""
        dead = self.watch.dead
        self.since = {name: self.since.get(name, time.time()) for name in sorted(dead)}
        known = Known(
            lost=tuple(sorted(self.watch.lost)),
            told={who: tuple(sorted(what)) for who, what in self.watch.told.items()},
            since=self.since,
        )
        try:
            with carriers.alone(self.link.name):
                known.write(self.link.name)
                carriers.steer(self.link, dead)
        except StepError as fault:
            _say(str(fault))
        by = carriers.stand_ins(self.link.carriers, dead)
        now = [f"{live} carries {name}'s addresses" for name, live in by.items()]
        for line in lines:
            _say(f"{line}; {', '.join(now) or 'each controller carries its own addresses'}")


class _Controller:
    """A controller's part."""

    def __init__(self, link: Link, voice: Voice, known: Known) -> None:
        self.link, self.voice, self.since = link, voice, dict(known.since)
        self.addresses = {name: address for address, name in link.listeners.items()}
        now = time.monotonic()
        words = {who: board.Word(lost=frozenset(what), at=now) for who, what in known.told.items()}
        self.board = board.Board(words=words, dead=known.dead)
        self.packets = voice.packets("rx")

    def wait(self) -> float:
        """Return the seconds until something is to be done."""
        wanted = board.next_look(self.board, time.monotonic())
        return CALM if wanted is None else min(wanted, CALM)

    def turn(self) -> bool:
        """Look, think, do; return that it was time to look at the rest too."""
        self.voice.answers()
        listeners = self.link.listeners
        names = {each.name for each in self.link.carriers}
        heard = [
            (listeners[address], lost & names)
            for address, lost in self.voice.heard()
            if address in listeners
        ]
        packets = self.voice.packets("rx")
        quiet, self.packets = packets == self.packets, packets
        before = self.board
        look = board.Look(now=time.monotonic(), quiet=quiet and not heard, heard=tuple(heard))
        self.board, acts = board.step(self.board, look)
        for line in acts.lines:
            _say(line)
        for name in self.addresses if acts.tell_all else acts.tell:
            self.voice.tell(self.addresses[name], self.board.dead)
        if _said(before) != _said(self.board) or before.dead != self.board.dead:
            now = time.time()
            self.since = {name: self.since.get(name, now) for name in sorted(self.board.dead)}
            told = {who: tuple(sorted(what)) for who, what in _said(self.board).items()}
            Known(told=told, since=self.since).write(self.link.name)
        return True


def _said(known: board.Board) -> Mapping[str, frozenset[str]]:
    return {who: word.lost for who, word in known.words.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (the journal)
