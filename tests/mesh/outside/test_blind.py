"""What a machine puts into the DHT: the clan finds and reads it, and nobody else can follow it."""

from __future__ import annotations

import pytest
from tests.mesh.signers import fresh, key

from clan.mesh.chart.content import Secret
from clan.mesh.errors import MeshError
from clan.mesh.link import Endpoint
from clan.mesh.outside import blind
from clan.mesh.signal import Place

NAS, TV = key("nas"), key("tv")
SECRET, LATER = Secret(made=1, key=fresh("one")), Secret(made=2, key=fresh("two"))
NOON = 1_800_014_400.0
PLACES = tuple(
    Place(interface=f"0a0b0c{n:02x}", endpoint=Endpoint(host=f"2001:db8:1:2:3:4:5:{n}", port=51000))
    for n in range(1, 9)
)


def test_keys_tell_nothing_of_each_other() -> None:
    found = {
        blind.item(secret.key, each.public, day).public
        for secret in (SECRET, LATER)
        for each in (NAS, TV)
        for day in (20833, 20834)
    }
    assert len(found) == 8
    assert not found & {NAS.public, TV.public}
    again = blind.item(SECRET.key, NAS.public, 20833)
    assert again.public in found
    assert again.public != blind.item(SECRET.key, NAS.public, 20835).public


def test_what_is_written_is_read_and_fits_however_much_it_is() -> None:
    for count in range(9):
        value = blind.write(SECRET.key, NAS, 7, PLACES[:count])
        assert len(value) <= blind.LONGEST
        said = blind.read(SECRET, NAS.public, value, NOON)
        assert (said.number, said.places) == (7, PLACES[:count])


def test_only_its_machine_can_have_written_it() -> None:
    value = blind.write(SECRET.key, NAS, 7, PLACES)
    damaged = bytes([*value[:-1], value[-1] ^ 1])
    for secret, identity, data in (
        (LATER, NAS.public, value),
        (SECRET, TV.public, value),
        (SECRET, NAS.public, damaged),
        (SECRET, NAS.public, b""),
    ):
        with pytest.raises(MeshError):
            blind.read(secret, identity, data, NOON)


def test_it_looks_the_same_as_noise_and_is_never_the_same_twice() -> None:
    first, second = (blind.write(SECRET.key, NAS, 7, PLACES) for _ in range(2))
    assert first != second
    assert b"0a0b" not in first
    assert (len(first) - 40) % 128 == 0


@pytest.mark.parametrize(
    ("at", "days"),
    [
        (20833 * 86400 + 43200, (20833,)),
        (20833 * 86400 + 3600, (20832, 20833)),
        (20833 * 86400 + 86399, (20833, 20834)),
    ],
)
def test_round_midnight_both_days_are_looked_at(at: float, days: tuple[int, ...]) -> None:
    assert blind.days(at) == days
