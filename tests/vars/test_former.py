"""What a machine is reached by is replaced, and the machine is not lost by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vars.family import Counter, Family, changed, made
from tests.vars.test_people import remove, with_ben

from clan.model.exports import Var
from clan.model.generator import FORMER, Generator, VarFile, former
from clan.vars.age import new_key
from clan.vars.former import moved, waiting
from clan.vars.readers import admit
from clan.vars.survey import check, prune

if TYPE_CHECKING:
    from clan.vars.names import GeneratorId

BOTH = ("nas", "vps")


def onion() -> Generator:
    return changed(made("onion", make=Counter()), overlaps=("nas",))


def shared() -> Generator:
    return changed(made("opens", machine=None, make=Counter()), overlaps=BOTH)


def value(family: Family, generator: Generator, file: str = "value") -> str | None:
    var = Var(machine=generator.machine, generator=generator.name, file=file)
    data = family.store.value(var)
    return None if data is None else data.decode()


def both(family: Family, generator: Generator) -> tuple[str | None, str | None]:
    return value(family, generator), value(family, generator, former("value"))


def seen(family: Family, machine: str, *generators: Generator) -> list[GeneratorId]:
    graph = family.graph(*generators)
    return moved(family.store, graph, machine, waiting(family.store, graph))


def test_what_is_replaced_goes_on_beside_until_the_machine_was_seen_without(family: Family) -> None:
    family.machine("nas")
    declared = onion()
    family.generate(declared)
    assert both(family, declared) == ("value 1", None)
    # Twice in a row: the machine knows the first.
    for _ in range(2):
        family.regenerate(declared, service="onion")
    assert both(family, declared) == ("value 3", "value 1")
    graph = family.graph(declared)
    said = {each.id: each.message for each in check(family.store, graph, BOTH)}
    assert said["nas/onion"].startswith("what it replaced is used too, until an update reached nas")
    assert prune(family.store, graph, BOTH) == []
    assert [str(each) for each in seen(family, "nas", declared)] == ["nas/onion"]
    assert both(family, declared) == ("value 3", None)
    assert waiting(family.store, graph) == {}
    assert family.generate(declared) == []


def test_what_all_share_goes_on_until_each_was_seen_without(family: Family) -> None:
    for machine in BOTH:
        family.machine(machine)
    declared = shared()
    family.generate(declared)
    family.regenerate(declared, service="opens")
    assert value(family, declared, FORMER) == "nas\nvps\n"
    assert seen(family, "nas", declared) == []
    assert both(family, declared) == ("value 2", "value 1")
    assert [str(each) for each in seen(family, "vps", declared)] == ["shared/opens"]
    assert both(family, declared) == ("value 2", None)


def test_a_machine_that_left_is_not_waited_for(family: Family) -> None:
    for machine in BOTH:
        family.machine(machine)
    declared = shared()
    family.generate(declared)
    family.regenerate(declared, service="opens")
    fewer = changed(declared, overlaps=("nas",))
    assert [str(each) for each in seen(family, "nas", fewer)] == ["shared/opens"]


def test_what_no_machine_has_yet_is_simply_replaced(family: Family) -> None:
    declared = onion()
    family.generate(declared)
    family.regenerate(declared, service="onion")
    assert both(family, declared) == ("value 2", None)


def test_what_was_replaced_meanwhile_is_not_settled(family: Family) -> None:
    family.machine("nas")
    declared = onion()
    graph = family.graph(declared)
    family.generate(declared)
    family.regenerate(declared, service="onion")
    begun = waiting(family.store, graph)
    family.regenerate(declared, service="onion")
    assert moved(family.store, graph, "nas", begun) == []
    assert both(family, declared) == ("value 3", "value 1")


def test_it_is_read_by_those_who_read_what_replaced_it(family: Family) -> None:
    family.machine("nas")
    declared = onion()
    family.generate(declared)
    ben = with_ben(family, declared)
    assert [str(each) for each in remove(family, declared).rotated] == ["nas/onion"]
    old = Var(machine="nas", generator="onion", file=former("value"))
    assert not family.readable_by(ben, old)
    nas, public = new_key()
    admit(family.store, family.graph(declared), "nas", public)
    assert family.readable_by(nas, old)
    wrong = [each for each in check(family.store, family.graph(declared), BOTH) if each.wrong]
    assert wrong == []


def test_who_depends_on_it_does_not_follow_when_the_old_one_goes(family: Family) -> None:
    family.machine("nas")
    files = (VarFile(name="value", secret=False),)
    name = changed(onion(), files=files)
    follows = changed(made("follows", secret=False), depends=("onion",))
    family.generate(name, follows)
    family.regenerate(name, follows, service="onion")
    assert both(family, name) == ("value 2", "value 1")
    seen(family, "nas", name, follows)
    assert both(family, name) == ("value 2", None)
    assert family.generate(name, follows) == []
