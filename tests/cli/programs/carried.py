"""A network whose streams a process carries that is started for them, as a module of a clan's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Role, Settings
from clan.networks.technology import (
    Aim,
    Connection,
    Context,
    DialError,
    NetworkTechnology,
    Session,
    Throughput,
    Traits,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from clan.model.clan import Clan, Instance
    from clan.model.route import Network, Route

# Copies between its standard input, a socket, and a port of this computer; the port 1 is refused.
CARRIER = """
import os, socket, sys, threading, time
ours, port = socket.socket(fileno=0), int(sys.argv[1])
while True:
    try:
        theirs = socket.create_connection(("127.0.0.1", port))
        break
    except ConnectionRefusedError:
        if port == 1:
            sys.exit(1)
        time.sleep(0.05)
def flow(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    finally:
        os._exit(0)
threading.Thread(target=flow, args=(ours, theirs)).start()
flow(theirs, ours)
"""


class Carrying(Settings):
    """Where the server is, and where the carriers' process ids are written."""

    port: int
    pids: str


class Carried(NetworkTechnology):
    """Streams through a process."""

    traits: ClassVar[Traits] = Traits(throughput=Throughput.HIGH, keeps=True)

    def running(self, network: Network, context: Context) -> bool:
        del network, context
        return True

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        del context
        session = CarriedSession(network)
        try:
            yield session
        finally:
            for carrier in session.carriers:
                carrier.kill()
                carrier.wait()


class CarriedSession(Session):
    """Starts a carrier for each stream."""

    keeps = True

    def __init__(self, network: Network) -> None:
        self.network = network
        self.carriers: list[subprocess.Popen[bytes]] = []

    async def dial(self, route: Route, aim: Aim) -> Connection:
        del route, aim
        settings = self.network.settings
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-c", CARRIER, str(settings["port"])]
            carrier = subprocess.Popen(words, stdin=theirs.fileno(), start_new_session=True)  # noqa: ASYNC220
        self.carriers.append(carrier)
        with open(settings["pids"], "a") as file:  # noqa: ASYNC230, PTH123
            file.write(f"{carrier.pid}\n")
        ours.setblocking(False)
        ready = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours, ready.set)
        try:
            await ready.wait()
        except BaseException:
            ours.close()
            raise
        finally:
            asyncio.get_running_loop().remove_reader(ours)
        if not ours.recv(1, socket.MSG_PEEK):
            ours.close()
            raise DialError("the carrier was refused")
        return Connection(sock=ours, address="carried", rtt=0.001)


class module(Module):  # noqa: N801 (the name that is looked for)
    """Machines at a port of this computer."""

    name = "carried"
    description = "Carried."
    roles: ClassVar[Mapping[str, Role]] = {"default": Role(description="Anyone.")}
    settings = Carrying

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        del clan
        settings = Carrying.of(instance)
        peers = {name: Peer(name=name, hosts=("x",)) for name in instance.members["default"]}
        return Exports(
            networking=Networking(
                priority=9000,
                technology=":Carried",
                peers=peers,
                settings={"port": settings.port, "pids": settings.pids},
            )
        )
