"""A shell while this computer moves, against a real ssh server on loopback."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Keys, make_key, serving

from clan.errors import UnreachableError
from clan.model.route import Network, Route
from clan.networks.hostkeys import FirstContact
from clan.networks.memory import Memories
from clan.networks.routes import Destination
from clan.networks.shell import MOST_TRIES, Desk, Request, shell
from clan.networks.technology import Context
from clan.system.names import SystemResolver
from clan.system.underlay import Underlay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.sshd import Sshd

    from clan.networks.connect import Reached

HOME = Underlay(key="home", sources=("192.168.1.0/24",), links=())
CAFE = Underlay(key="cafe", sources=("10.0.0.0/24",), links=())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    identity = tmp_path_factory.mktemp("keys") / "me"
    make_key(identity)
    return Keys(identity=identity)


@pytest.fixture(scope="module")
def nas(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path_factory.mktemp("nas"), "nas", keys) as server:
        yield server


@dataclass(slots=True)
class Traveller:
    """This computer: it is where `now` says, and `tell` may move it once it is connected."""

    now: Callable[[], Underlay]
    told: list[str] = field(default_factory=list)
    recorded: list[str] = field(default_factory=list)

    def tell(self, reached: Reached) -> None:
        self.told.append(reached.connection.address)

    def log_in(self, nas: Sshd, keys: Keys, folder: Path, command: str) -> int:
        route = Route(
            machine="nas",
            network=Network(
                name="internet",
                module="internet",
                technology="clan.modules.internet.technology:Internet",
                priority=0,
            ),
            hosts=("127.0.0.1",),
            port=nas.port,
            user=getpass.getuser(),
        )
        ssh = shutil.which("ssh") or "ssh"
        return asyncio.run(
            shell(
                Destination(machine="nas", full_name="nas.family", routes=(route,)),
                Request(
                    policy=FirstContact.ACCEPT_NEW,
                    options=(f"IdentityFile={keys.identity}", "IdentitiesOnly=yes"),
                    command=(command,),
                ),
                host_key=None,
                context=Context(
                    resolver=SystemResolver(),
                    locate=self.now,
                    reveal=str,
                    ssh=lambda: ssh,
                    clan_command=("clan",),
                ),
                memories=Memories(folder),
                desk=Desk(ask=None, tell=self.tell, warn=pytest.fail, record=self.recorded.append),
            )
        )


def test_a_move_during_the_login_begins_it_anew_and_the_command_runs_once(
    nas: Sshd, keys: Keys, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def now() -> Underlay:
        return CAFE if traveller.told else HOME

    traveller = Traveller(now)
    ran = tmp_path / "ran"
    assert traveller.log_in(nas, keys, tmp_path, f"echo hello | tee -a {ran}; exit 7") == 7
    assert len(traveller.told) == 2
    assert ran.read_text() == "hello\n"
    # What ssh said of the stream that was taken from it is nobody's concern.
    assert capfd.readouterr() == ("hello\n", "")
    assert len(traveller.recorded) == 1


def test_a_network_gained_during_the_login_is_no_move(
    nas: Sshd, keys: Keys, tmp_path: Path
) -> None:
    both = replace(HOME, key="both", sources=(*HOME.sources, "2001:db8:1::/64"))

    def now() -> Underlay:
        return both if traveller.told else HOME

    traveller = Traveller(now)
    assert traveller.log_in(nas, keys, tmp_path, "exit 7") == 7
    assert len(traveller.told) == 1


def test_a_session_that_runs_outlives_a_move(nas: Sshd, keys: Keys, tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def now() -> Underlay:
        return CAFE if begun.exists() else HOME

    traveller = Traveller(now)
    assert traveller.log_in(nas, keys, tmp_path, f"touch {begun}; sleep 0.6; exit 5") == 5
    assert len(traveller.told) == 1


def test_who_never_stays_anywhere_is_told(
    nas: Sshd, keys: Keys, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def now() -> Underlay:
        # Elsewhere after every connection, and still for as long as one is being made.
        return Underlay(key=str(len(traveller.told)), sources=(str(len(traveller.told)),), links=())

    traveller = Traveller(now)
    begin = time.monotonic()
    with pytest.raises(UnreachableError, match="changes networks too often to log in to nas"):
        traveller.log_in(nas, keys, tmp_path, "echo never")
    assert len(traveller.told) == MOST_TRIES
    assert time.monotonic() - begin < 60
    assert capfd.readouterr() == ("", "")
