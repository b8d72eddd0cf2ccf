"""What modules declare is looked at as a whole, and every fault is said at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Declares, changed, clan_of, made, wireguard

from clan.errors import InventoryError
from clan.model.generator import VarFile
from clan.vars.graph import graph

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clan.model.clan import Clan, Instance
    from clan.model.generator import Generator

FAULTS: list[tuple[list[Generator], str]] = [
    ([changed(made("a"), depends=("b",)), made("bb")], "depends on 'b', which nothing declares"),
    ([made("a"), changed(made("a"), version=2)], "'nas/a' is declared twice"),
    ([made("a"), made("a")], "'nas/a' is declared twice"),
    ([made("a", machine=None), changed(made("a", machine=None), version=2)], "declared twice"),
    (
        [changed(made("a"), depends=("b",)), changed(made("b"), depends=("a",))],
        "generators go round in a circle: nas/a needs nas/b needs nas/a",
    ),
    ([made("../a")], "has a name that cannot be a folder's"),
    ([made("identity")], "has a name that cannot be a folder's"),
    ([made("a", "b/c")], "has a file 'b/c'"),
    ([made("a", "meta.json")], "has a file 'meta.json'"),
    ([made("a", ".hidden")], "has a file '.hidden'"),
    ([made("a", "b", "b")], "has two files 'b'"),
    ([made("a", machine="nsa")], "is for machine 'nsa', which the clan has not"),
    ([changed(made("a", machine=None), users=("nsa",))], "is for machine 'nsa'"),
    ([changed(made("a"), files=())], "makes no files"),
    ([changed(made("a"), inputs={"a": object()})], "are no JSON values"),
    ([changed(wireguard(), machine=None)], "the clan cannot share it"),
    ([changed(wireguard(), files=(VarFile(name="privatekey"),))], "hands out no public file"),
    ([made("a", "former.b")], "has a file 'former.b', as what is replaced is called"),
    (
        [changed(made("a", machine=None), depends=("b",)), made("b")],
        "depends on 'b', which nothing declares",
    ),
]


@pytest.mark.parametrize(("generators", "said"), FAULTS)
def test_a_fault_is_named(tmp_path: Path, generators: list[Generator], said: str) -> None:
    with pytest.raises(InventoryError, match=r"\S") as caught:
        graph(clan_of(tmp_path, *generators))
    assert len(caught.value.faults) == 1
    assert said in str(caught.value)


def test_all_faults_come_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    wrong = changed(made("a"), depends=("wifii",)), made("b", "c/d"), made("wifi", machine=None)
    with pytest.raises(InventoryError) as caught:
        graph(clan_of(tmp_path, *wrong))
    assert len(caught.value.faults) == 2
    assert "did you mean 'wifi'?" in str(caught.value)


class Crashes(Declares):
    def generators(self, instance: Instance, clan: Clan) -> Iterable[Generator]:
        del clan
        yield made("fine")
        raise KeyError(instance.name)


def test_a_module_that_crashes_is_named_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"generators\(\) crashed: KeyError.*test_graph.py"):
        graph(clan_of(tmp_path, more=Crashes(())))


def test_a_shared_generator_is_declared_by_all_who_use_it(tmp_path: Path) -> None:
    wifi = made("wifi", machine=None)
    one = changed(wifi, users=("nas",))
    other = Declares([changed(wifi, users=("vps",))])
    found = graph(clan_of(tmp_path, one, other=other))
    (entry,) = found.entries.values()
    assert entry.users == ("nas", "vps")
    assert [each.id.name for each in found.of_machine("vps")] == ["wifi"]


def test_a_generator_of_the_machine_goes_before_a_shared_one_of_its_name(tmp_path: Path) -> None:
    after = changed(made("after"), depends=("ca",))
    found = graph(clan_of(tmp_path, after, made("ca"), made("ca", machine=None)))
    assert [str(each) for each in list(found.entries.values())[-1].depends] == ["nas/ca"]
    assert [str(each) for each in found.entries][-1] == "nas/after"


def test_no_machine_is_called_as_what_the_clan_shares(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="rename it"):
        graph(clan_of(tmp_path, made("a", machine="shared"), machines=("shared",)))
