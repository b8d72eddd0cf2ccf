"""Maps beside each other: which of them count, what holds meanwhile, and how they are merged. Pure.

Two maps of one epoch are a fork when neither comes from the other: two admins signed without
knowing of each other, or one of their keys is in wrong hands. Nobody is there to decide, so
machines that know the same maps must come to the same result by themselves:

- a map counts for nothing if another one removes its signer and is not answered in kind;
- what is removed on any map that counts is removed;
- all else that they say holds, the higher map's word first, until an admin merges them;
- where signers remove each other, only that holds in which all agree, until the root begins an
  epoch: one of them is a thief, and a thief shall add nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.mesh.chart import content as contents
from clan.mesh.chart import links
from clan.mesh.chart.content import Content, Machine, Ports, Secret, allowed, folded
from clan.mesh.chart.mandate import list_admins
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from ipaddress import IPv4Network

    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.mandate import Chain
    from clan.mesh.identity import Key


class State(enum.StrEnum):
    """How a machine's maps stand to each other."""

    NONE = "none"
    CLEAR = "clear"
    FORKED = "forked"
    """An admin has to merge."""
    DISPUTED = "disputed"
    """Admins remove each other: the root has to begin an epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Maps of one epoch, none of which comes from another, after looking at who removed whom."""

    heads: tuple[Chart, ...]
    """Those that count, the highest first."""
    void: tuple[tuple[Chart, str], ...]
    """Those that do not, and why."""
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What holds."""

    state: State
    content: Content
    """Of one map it is that map's; of several what they come to. An admin merges by signing it."""
    differences: tuple[str, ...] = ()
    """What an admin who merges should look at, in words."""
    heads: tuple[Chart, ...] = ()

    def allowed(self, source: Machine, target: Machine) -> tuple[Ports, ...]:
        """Return what of `target` a machine may reach: what every map that counts allows."""
        if not self.heads:
            return ()
        each = [allowed(head.content.rules, source, target) for head in self.heads]
        return tuple(
            ports
            for ports in each[0]
            if all(any(other.covers(ports) for other in others) for others in each[1:])
        )


def settle(charts: Iterable[Chart]) -> Settled:
    """Find out which maps count. They are of one epoch, and none comes from another."""
    undecided = sorted(charts, key=lambda each: each.order, reverse=True)
    firm: list[Chart] = []
    void: list[tuple[Chart, str]] = []
    while undecided:
        free = [
            each
            for each in undecided
            if not any(other.removes(each) for other in undecided if other is not each)
        ]
        if not free:
            break
        firm += free
        rest = [each for each in undecided if each not in free]
        undecided = []
        for each in rest:
            by = next((other for other in free if other.removes(each)), None)
            if by is None:
                undecided.append(each)
            else:
                signer = each.chain.name(each.signer)
                void.append((each, f"{by} takes the right to sign away from {signer}"))
    heads = sorted([*firm, *undecided], key=lambda each: each.order, reverse=True)
    state = State.CLEAR if len(heads) == 1 else State.FORKED
    return Settled(
        heads=tuple(heads),
        void=tuple(void),
        state=State.DISPUTED if undecided else state if heads else State.NONE,
    )


def tips(maps: Iterable[Chart]) -> list[Chart]:
    """Return the maps that none of the others replaces."""
    maps = tuple(maps)
    return [each for each in maps if not any(other.succeeds(each) for other in maps)]


def needed(maps: Iterable[Chart]) -> list[Chart]:
    """Return the maps that have to be kept: the tips, and what each replaced of other signers.

    If its signer turns out to be a thief, those come into force again.
    """
    maps = tuple(maps)
    kept: dict[bytes, Chart] = {}
    for tip in tips(maps):
        kept[tip.hash] = tip
        under = [each for each in maps if tip.succeeds(each) and each.signer != tip.signer]
        kept |= {each.hash: each for each in tips(under)}
    return sorted(kept.values(), key=lambda each: each.order, reverse=True)


def weigh(maps: Iterable[Chart]) -> Settled:
    """Find out which of a machine's maps of one epoch count, and what comes of it."""
    left = tuple(maps)
    void: tuple[tuple[Chart, str], ...] = ()
    while True:
        settled = settle(tips(left))
        void += settled.void
        if not settled.void:
            return replace(settled, void=void)
        # What counts for nothing has replaced nothing either.
        out = {each.hash for each, _ in settled.void}
        left = tuple(each for each in left if each.hash not in out)


def merged_chain(heads: Sequence[Chart], by: Key) -> Chain:
    """Return the mandates under which `by` can sign the map that merges these.

    That is the longest chain; where both sides listed admins anew, a new list of all whom neither
    removed. Raises MeshError if `by` may not sign on any side.
    """
    chains = [head.chain for head in heads if by.public in head.chain.last.signers]
    if not chains:
        raise MeshError("this key may not sign any of the maps that are in force")
    for chain in chains:
        if all(chain.extends(head.chain) for head in heads):
            return chain
    removed = frozenset().union(*(head.chain.removed for head in heads))
    admins = {
        admin.key: admin
        for head in heads
        for admin in head.chain.last.admins
        if admin.key not in removed
    }
    return list_admins(chains[0], list(admins.values()), by)


def view(settled: Settled) -> View:
    """Return what holds of maps that were weighed."""
    if len(settled.heads) < 2:  # noqa: PLR2004 (one does not differ)
        content = settled.heads[0].content if settled.heads else Content()
        return View(state=settled.state, content=content, heads=settled.heads)
    combined = _agreed if settled.state is State.DISPUTED else _joined
    content, differences = combined(settled.heads)
    return View(state=settled.state, content=content, differences=differences, heads=settled.heads)


def _removed(heads: Sequence[Chart]) -> frozenset[bytes]:
    return frozenset().union(*(head.content.removed for head in heads))


def _secrets(heads: Sequence[Chart]) -> tuple[Secret, ...]:
    every = {secret for head in heads for secret in head.content.secrets}
    return tuple(sorted(every, reverse=True)[: contents.MOST_SECRETS])


def _agreed(heads: Sequence[Chart]) -> tuple[Content, tuple[str, ...]]:
    """Return what all maps say alike, without what any removes."""
    removed = _removed(heads)
    others = [
        {(each.name, each.identity): each for each in head.content.machines} for head in heads[1:]
    ]
    machines = []
    for machine in heads[0].content.machines:
        same = [each.get((machine.name, machine.identity)) for each in others]
        if None in same:
            continue
        for each in filter(None, same):
            machine = replace(  # noqa: PLW2901 (what is left of it)
                machine,
                tags=machine.tags & each.tags,
                addresses=tuple(known for known in machine.addresses if known in each.addresses),
                alias=machine.alias if machine.alias == each.alias else None,
                subnets=machine.subnets & each.subnets,
                links=links.newer(machine.links, each.links),
            )
        machines.append(machine)
    content = replace(
        heads[0].content, machines=tuple(machines), removed=removed, secrets=_secrets(heads)
    )
    return content, ("admins have removed each other: only the root's next epoch decides",)


def _joined(heads: Sequence[Chart]) -> tuple[Content, tuple[str, ...]]:
    """Return what the maps say together; where they differ, what the higher one says."""
    removed = _removed(heads)
    machines: dict[bytes, Machine] = {}
    names: set[str] = set()
    taken: set[object] = set()
    differences: dict[str, None] = {}
    for head in heads:
        for machine in head.content.machines:
            held = machines.get(machine.identity)
            if machine.identity in removed:
                differences[f"{machine.name} is removed"] = None
            elif held is not None:
                latest = links.newer(held.links, machine.links)
                machines[machine.identity] = replace(held, links=latest)
                if replace(machine, links=held.links) != held:
                    differences[f"{held.name} is not as {head} has it"] = None
            elif folded(machine.name) in names:
                differences[f"{machine.name} of {head} is left out: another has its name"] = None
            else:
                kept = _without(machine, taken, heads[0].content.aliases)
                if kept != machine:
                    differences[f"{machine.name} of {head} loses an alias or a network"] = None
                machines[machine.identity] = kept
                names.add(folded(machine.name))
                taken |= {kept.alias, *kept.subnets} - {None}
    differences |= dict.fromkeys(_unlike(heads))
    content = replace(
        heads[0].content,
        machines=tuple(sorted(machines.values(), key=lambda each: each.name)),
        removed=removed,
        secrets=_secrets(heads),
    )
    return content, tuple(differences)


def _unlike(heads: Sequence[Chart]) -> Iterator[str]:
    """Yield in what else lower maps differ from the highest, whose word holds."""
    top = heads[0]
    for head in heads[1:]:
        if head.content.rules != top.content.rules:
            yield f"the rules are those of {top}, not of {head}"
        if head.content.aliases != top.content.aliases:
            yield f"the range of aliases is that of {top}, not of {head}"


def _without(machine: Machine, taken: set[object], within: IPv4Network | None) -> Machine:
    """Return a machine without what another has, and without an alias of another range."""
    alias = machine.alias
    if alias is not None and (alias in taken or within is None or alias not in within):
        alias = None
    return replace(machine, alias=alias, subnets=machine.subnets - taken)
