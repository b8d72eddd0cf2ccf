from __future__ import annotations

import pytest

from clan.lab.cuts import Cut, Direction, read, rules

# A cut, and what it adds to the bridge table at the cable vb-m1, without the table and comment.
CASES = [
    (Cut(what="nas"), ['coming iifname "vb-m1" drop', 'going oifname "vb-m1" drop']),
    (Cut(what="nas", direction=Direction.OUT), ['coming iifname "vb-m1" drop']),
    (
        Cut(what="nas", protocol="udp", direction=Direction.IN),
        ['going oifname "vb-m1" meta l4proto udp drop'],
    ),
    (
        Cut(what="nas", protocol="tcp", port=22, direction=Direction.IN),
        [
            'going oifname "vb-m1" meta l4proto tcp th sport 22 drop',
            'going oifname "vb-m1" meta l4proto tcp th dport 22 drop',
        ],
    ),
    (
        Cut(what="nas", port=53, direction=Direction.OUT),
        [
            'coming iifname "vb-m1" meta l4proto { tcp, udp } th sport 53 drop',
            'coming iifname "vb-m1" meta l4proto { tcp, udp } th dport 53 drop',
        ],
    ),
]


@pytest.mark.parametrize(("cut", "expected"), CASES)
def test_a_cut_drops_just_what_it_names(cut: Cut, expected: list[str]) -> None:
    assert list(rules(cut, "vb-m1", "bridge")) == [
        f'add rule bridge cuts {rule} comment "{cut}"' for rule in expected
    ]


@pytest.mark.parametrize("cut", [cut for cut, _ in CASES])
def test_a_cut_is_read_back_from_its_rules(cut: Cut) -> None:
    assert read(str(cut)) == cut


def test_a_cut_is_told_in_words() -> None:
    assert Cut(what="nas").traffic == "all"
    assert Cut(what="nas", port=53).traffic == "port 53"
    assert Cut(what="nas", protocol="udp", port=53, direction=Direction.OUT).traffic == "udp 53 out"
