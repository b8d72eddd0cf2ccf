"""What `--explain` shows fits a terminal, whatever the addresses."""

from __future__ import annotations

import socket

from clan.cli.explain import explain
from clan.model.route import Network, Route
from clan.networks.attempt import Attempt
from clan.networks.choose import Ranked
from clan.networks.race import Lap
from clan.networks.technology import Connection, DialError

ADDRESS = "[2001:db8:1234:5678:9abc:def0:1234:5678]:22"


def route(name: str) -> Route:
    technology = "clan.modules.internet.technology:Internet"
    network = Network(name=name, module="internet", technology=technology, priority=1000)
    return Route(machine="nas", network=network, hosts=("nas.example",))


def attempt(name: str, lap: Lap, connection: Connection | None = None) -> Attempt:
    why = "priority 1000, and it failed from here 3 times, for the last time 14 s ago"
    return Attempt(route=route(name), why=why, lap=lap, patience=1.0, connection=connection)


def test_long_addresses_and_reasons_are_broken_between_words() -> None:
    silent = Lap(started=0.0, ended=5.0, fault=DialError(f"no answer from {ADDRESS} in 5 s"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        won = Connection(sock=ours, address=ADDRESS, rtt=0.1234)
        attempts = [
            attempt("wireguard-vpn", silent),
            attempt("office-internet", Lap(started=0.25, ended=0.5), won),
        ]
        excluded = [Ranked(route=route("lan"), why=f"set aside: {ADDRESS} showed another host key")]
        shown = explain("nas", attempts, excluded, action="interactive", width=80).splitlines()
    assert max(map(len, shown)) <= 80, shown
    assert shown[1:3] == [
        "  wireguard-vpn    priority 1000, and it failed from here 3 times, for the last",
        "                   time 14 s ago",
    ]
    assert " ".join(map(str.strip, shown)).count(ADDRESS) == 3
