from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.machine.blocks import BEGIN, END, set_block, with_block

if TYPE_CHECKING:
    from pathlib import Path

HOSTS = b"127.0.0.1 localhost\n::1 localhost\n"

foreign = (
    st.lists(
        st.one_of(
            st.sampled_from(
                [b"127.0.0.1 localhost", b"# end clanship", b"", b"\x85", b"a\rb", b"\xff"]
            ),
            st.binary(max_size=8),
        )
    ).map(b"\n".join)
    | st.binary()
)
ours = st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=8))
some = ours.filter(bool)


@given(foreign, ours)
def test_what_is_not_ours_stays_to_the_byte(data: bytes, lines: list[str]) -> None:
    assert with_block(with_block(data, lines), []) == data
    written = with_block(data, lines)
    assert written.startswith(data)


@given(foreign, foreign, some, some)
def test_a_block_is_replaced_where_it_stands(
    above: bytes, below: bytes, lines: list[str], later: list[str]
) -> None:
    first = with_block(above, lines) + below
    second = with_block(first, later)
    assert second == with_block(above, later) + below
    assert with_block(second, later) == second


@given(foreign, some)
def test_twice_is_once(data: bytes, lines: list[str]) -> None:
    once = with_block(data, lines)
    assert with_block(once, lines) == once


def test_a_beginning_without_its_end_takes_nothing_with_it() -> None:
    torn = HOSTS + BEGIN + b"\n10.0.0.1 nas.vpn\n10.0.0.2 printer\n"
    mended = with_block(torn, ["10.0.0.3 vps.vpn"])
    assert b"10.0.0.2 printer\n" in mended
    assert mended.count(BEGIN) == mended.count(END) == 1
    assert with_block(mended, []) == HOSTS + b"10.0.0.1 nas.vpn\n10.0.0.2 printer\n"


def test_of_two_blocks_one_stays() -> None:
    block = BEGIN + b"\nold\n" + END + b"\n"
    assert with_block(block + HOSTS + block, ["new"]) == BEGIN + b"\nnew\n" + END + b"\n" + HOSTS


def test_lines_that_end_as_on_windows_stay_so(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1 localhost\r\n")
    set_block(hosts, ["10.0.0.1 nas.vpn"])
    assert hosts.read_bytes().startswith(b"127.0.0.1 localhost\r\n# begin clan")
    set_block(hosts, [])
    assert hosts.read_bytes() == b"127.0.0.1 localhost\r\n"


@pytest.mark.parametrize("before", [None, b"", HOSTS, b"no line end"])
def test_a_file_is_afterwards_as_it_was(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "folder/file"
    path.parent.mkdir()
    if before is not None:
        path.write_bytes(before)
        path.chmod(0o640)
    for lines in (["one"], ["one", "two"], [], []):
        set_block(path, lines)
    assert (path.read_bytes() if path.exists() else None) == before
    assert before is None or path.stat().st_mode & 0o7777 == 0o640
    assert list(path.parent.iterdir()) == ([] if before is None else [path])


def test_a_link_is_followed_and_what_was_killed_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(HOSTS)
    (tmp_path / ".real.clan-new").write_bytes(b"half of i")
    (tmp_path / "hosts").symlink_to("real")
    set_block(tmp_path / "hosts", ["10.0.0.1 nas.vpn"])
    assert (tmp_path / "hosts").is_symlink()
    assert b"nas.vpn" in (tmp_path / "real").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "real"]
