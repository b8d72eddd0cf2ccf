"""What a member says of where it is: a candidate, of which few are kept, and not many are read."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import TYPE_CHECKING, cast

import pytest
from tests.mesh.signers import ROOT, key

from clan.mesh import identity, signal, wire
from clan.mesh.agent import setting, signals
from clan.mesh.agent.here import Here
from clan.mesh.agent.interfaces import Interfaces
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.knowledge import Knowledge
from clan.mesh.agent.signals import MOST_IN_A_ROW, MOST_PLACES, PER_SECOND, Signals
from clan.mesh.chart.canonical import base64_of, encode
from clan.mesh.desire import Member, Wish
from clan.mesh.exchange import Called, Desired
from clan.mesh.link import Endpoint, Kind, Link, LinkId, Slot
from clan.mesh.measure import Health
from clan.mesh.pair import Mode, Pair, Standing
from clan.mesh.signal import Place, Signal
from clan.mesh.wire import Letter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clan.mesh.agent.outside import Outside

ME, LIAR, OTHER = key("me"), key("liar"), key("other")
LINK = LinkId(peer="liar", own="00000001", their="00000002")
WISH = Wish(
    desired=Desired(name="me"),
    peers={
        name: Member(name=name, identity=key(name).public, address=IPv6Address(number), alias=None)
        for number, name in enumerate(("liar", "other"), 1)
    },
)


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Signals]:
    """This machine's, which has no interface yet; all else is as an agent has it."""
    folder = tmp_path / "etc/clan/mesh"
    folder.mkdir(parents=True)
    (tmp_path / "key").write_text(identity.text(ME.seed))
    (tmp_path / "key").chmod(0o600)
    told = {"root": base64_of(ROOT.public), "identity": "/key"}
    (folder / "home.json").write_bytes(encode(told))
    given = setting.read("home", tmp_path)
    kernel = Kernel()
    here = Here(kernel, tmp_path / "slots", print)
    interfaces = Interfaces(kernel, ME.public, print)
    nobody = cast("Outside", None)  # nothing is asked of it before there is an interface
    yield Signals(Knowledge(given), here, interfaces, nobody, print)
    kernel.close()


def letter(number: int, by: identity.Key = LIAR) -> Letter:
    """Say that an interface is at another place each time."""
    place = Endpoint(host=f"198.51.100.{number % 200 + 1}", port=4000)
    said = Signal(
        sender=by.public,
        to=ME.public,
        number=number,
        answers=True,
        places=(Place(interface="00000002", endpoint=place),),
    )
    return Letter(data=signal.write(said, by))


def test_a_flood_of_places_is_not_read_and_few_are_kept(mine: Signals) -> None:
    for number in range(1, 1000):
        assert mine.take(LINK, letter(number), WISH, {}, 100.0)
    assert len(mine.observed) == MOST_IN_A_ROW
    (kept,) = mine.places(100.0).values()
    assert len(kept) == MOST_PLACES
    for number in range(1000, 2000):
        mine.take(LINK, letter(number), WISH, {}, 105.0)
    assert len(mine.observed) <= MOST_IN_A_ROW + 5 * PER_SECOND + 1
    # Whoever else says something is heard all the same.
    before = len(mine.observed)
    other = LinkId(peer="other", own="00000001", their="00000003")
    mine.take(other, letter(1, OTHER), WISH, {}, 105.0)
    assert len(mine.observed) == before + 1
    assert mine.places(105.0 + signals.GOOD_FOR) == {}


def test_of_another_it_can_say_nothing(mine: Signals) -> None:
    """Not even with what that one said to somebody else."""
    said = signal.read(letter(1, OTHER).data)
    forged = Letter(data=signal.write(said, LIAR))
    mine.take(LINK, forged, WISH, {}, 100.0)
    assert mine.places(100.0) == {}
    assert mine.observed == []


def standing(own: str, heard: float) -> Standing:
    id_ = LinkId(peer="other", own=own, their="0000000b")
    link = Link(id=id_, slot=Slot(uplink="eth0", family=4, kind=Kind.INTERNET))
    return Standing(link=link, health=Health(heard=heard), alive_since=0.0)


@pytest.mark.parametrize(
    ("heard", "given", "wakes"),
    [
        ((98.0, 50.0), [1], False),
        ((40.0, 50.0), [1, 2], True),
        ((40.0, 20.0), [1], True),
    ],
)
def test_a_signal_is_handed_on_by_another_link_too_where_the_path_may_be_gone(
    mine: Signals,
    monkeypatch: pytest.MonkeyPatch,
    heard: tuple[float, float],
    given: list[int],
    *,
    wakes: bool,
) -> None:
    """And whoever it is for is looked for: the same signal comes again soon."""
    links = [standing(f"0000000{n}", at) for n, at in enumerate(heard, 1)]
    path = links[0].link.id
    pair = Pair(links={each.link.id: each for each in links}, path=path, mode=Mode.SLOW)
    sent = []
    monkeypatch.setattr(Interfaces, "send", lambda _, link, data: sent.append((link.own, data)))
    said = signal.write(Signal(sender=LIAR.public, to=OTHER.public, number=1), LIAR)
    assert mine.take(LINK, Letter(data=said), WISH, {"other": pair}, 100.0)
    data = wire.encode(Letter(data=said))
    assert sent == [(f"0000000{n}", data) for n in given]
    assert mine.observed == ([Called(peer="other", at=100.0)] if wakes else [])
