"""Which relays: both ends come to the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.relay.pick import first_seat, of_pair

NAMES = st.sampled_from(["nas", "desk", "laptop", "pi", "vps", "shop"])


@given(
    NAMES,
    NAMES,
    st.dictionaries(NAMES, st.lists(NAMES, max_size=3, unique=True)),
    st.sets(NAMES),
)
def test_both_ends_choose_the_same_two(
    one: str, other: str, relays: dict[str, list[str]], offers: set[str]
) -> None:
    found = of_pair((one, other), relays, offers)
    assert found == of_pair((other, one), relays, sorted(offers, reverse=True))
    assert len(found) == min(2, len(offers - {one, other}))
    assert not {one, other} & set(found)


def test_what_both_keep_comes_first_then_what_one_does() -> None:
    relays = {"a": ["x", "y"], "b": ["z", "y"]}
    assert of_pair(("a", "b"), relays, {"w", "x", "y", "z"})[0] == "y"
    assert set(of_pair(("a", "b"), relays, {"w", "x", "z"})) == {"x", "z"}
    assert of_pair(("a", "b"), relays, {"w", "x"}) == ("x", "w")


def test_who_does_not_offer_itself_any_more_is_none() -> None:
    assert of_pair(("a", "b"), {"a": ["x"], "b": ["x"]}, {"w"}) == ("w",)


def test_both_sides_begin_at_one_seat() -> None:
    one, other = (b"a" * 32, "0000000a"), (b"b" * 32, "0000000b")
    assert first_seat((one, other)) == first_seat((other, one)) == 54
