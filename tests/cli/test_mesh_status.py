"""What `clan mesh status` and `path` print of what agents say: on 80 columns, without tricks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.modules.test_mesh_seen import link, pair, said

from clan.cli import mesh_status
from clan.cli.output import columns_of
from clan.modules.mesh import shown as mesh_shown
from clan.modules.mesh.seen import Seen, read_seen

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

SIGNED = 1_800_000_000.0
LONG = "a-machine-with-a-name"
WHY = "it answers 12 ms sooner than internet IPv4 by wlan0 and has not been lost for an hour"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_status, "terminal_width", lambda: 80)
    set_clock(monkeypatch, SIGNED)


def set_clock(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(mesh_shown, "time", SimpleNamespace(time=lambda: now))


def seen() -> Seen:
    """Return a machine with a path, an idle peer, a lost one, and a liar's words."""
    internet = link("internet", number=2)
    found = said(
        **{
            LONG: pair("fast", internet, link(), link("relay", alive=False, number=3))
            | {"why": WHY},
            "phone": pair("cold", path=None) | {"map": None},
            "tablet": pair("slow", link(alive=False)) | {"why": "\x1b[2J\nnas: all is well"},
        }
    )
    return read_seen(found | {"name": "nas\x1b]0;x\x07", "fault": "no room\x1b[2J"})


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    out, err = capsys.readouterr()
    assert "\x1b[2J" not in out + err
    assert "\x07" not in out + err
    lines = out.splitlines()
    (rule,) = [number for number, line in enumerate(lines) if set(line) == {"-"}] or [0]
    assert max(columns_of(line) for line in lines[rule - 1 :] if ": " not in line) <= 80
    return lines, err


def test_a_machine_s_peers_fit_and_nothing_they_say_is_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    mesh_status._one(seen())
    lines, err = shown(capsys)
    assert "map 1.7, signed just now; 0 of 3 others are known to have it" in lines
    assert "uplinks: eth0 (down)" in lines
    assert "no room" in err
    assert f"{LONG}: {WHY}" in lines
    assert "tablet: \\x1b[2J\\nnas: all is well" in lines
    rows = [
        line.split()[1:3] for line in lines if line.startswith((f"{LONG} ", "phone ", "tablet "))
    ]
    assert rows == [["internet", "IPv6"], ["idle", "-"], ["no", "way"]]


@pytest.mark.parametrize(
    ("later", "words"),
    [(-5, "just now"), (0.9, "just now"), (1, "1 second ago"), (7300, "2 hours ago")],
)
def test_it_says_how_long_ago_a_map_was_signed(
    monkeypatch: pytest.MonkeyPatch, later: float, words: str
) -> None:
    set_clock(monkeypatch, SIGNED + later)
    assert mesh_shown.ago(SIGNED) == words


def test_all_machines_fit(capsys: pytest.CaptureFixture[str]) -> None:
    mesh_status._all({"nas": seen(), LONG: None, "desktop": None})
    lines, _ = shown(capsys)
    text = " ".join(" ".join(line.split()) for line in lines)
    assert "eth0 is down;" in text
    assert "1.6, by nas" in text  # what nas knows of the one that is silent
    assert text.count("no answer") == 2


def test_the_links_of_a_pair_fit(capsys: pytest.CaptureFixture[str]) -> None:
    mesh_status._side("nas", LONG, seen().peers[LONG])
    lines, _ = shown(capsys)
    assert lines[0].startswith(f"nas → {LONG}: internet IPv6 by eth0, 0.4 ms, 0 % lost")
    states = [line for line in lines if "in use" in line or "stands by" in line or "silent" in line]
    assert len(states) == 3
    mesh_status._side("nas", LONG, None)
    assert shown(capsys)[0] == [f"nas knows nothing of {LONG}"]


def test_who_does_not_answer_is_said_with_every_way_that_was_tried(clan: Run, home: Path) -> None:
    (home / "clan.toml").write_text("""\
[machines.nas.deploy]
targetHost = "root@127.0.0.1:1"
[machines.desk.deploy]
targetHost = "root@127.0.0.1:2"
[instances.mesh.roles.member]
tags = ["all"]
""")
    told = clan("mesh", "path", "nas", "desk")
    assert told.code == 1
    assert told.out == "nas does not answer\ndesk does not answer\n"
    lines = told.err.splitlines()
    assert "warning: nas: no network leads to nas from here now" in lines
    assert "  internet  127.0.0.1:1: connection refused" in lines


def test_pairs_are_printed_or_a_picture_is_drawn(clan: Run, home: Path) -> None:
    told = clan("mesh", "graph", "--json", "-o", "mesh.svg")
    assert (told.code, told.out) == (2, "")
    assert "`--json` prints the pairs, and draws nothing" in told.err
    assert not (home / "mesh.svg").exists()
