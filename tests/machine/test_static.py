"""Static programs on a machine: kept once for all generations, gone with the last of these."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

from tests.machine.test_layout import with_generations

from clan.machine import activate, static
from clan.machine.lacks import NOTHING, Given, lacks
from clan.machine.layout import CONFIRMED, CURRENT, MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from clan.machine.layout import Layout


def program(version: str) -> dict[str, Any]:
    return {"name": "no-such-program", "version": version, "package": "no-such-package"}


def archive(*versions: str) -> zipfile.ZipFile:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as written:
        written.writestr("__main__.py", "")
        for version in versions:
            written.writestr(f"static/no-such-program-{version}", version)
    return zipfile.ZipFile(kept)


def laid_down(layout: Layout, number: int, version: str) -> None:
    static.take(layout, archive(version))
    static.link(layout, layout.generation(number), [program(version)])


def test_it_is_found_by_way_of_its_generation(tmp_path: Path) -> None:
    layout = with_generations(tmp_path, 1, 2)
    for number, version in ((1, "a"), (2, "b")):
        laid_down(layout, number, version)
        place = layout.generation(number) / "static/no-such-program"
        assert place.read_text() == version
        assert place.stat().st_mode & 0o777 == 0o755


def test_what_no_generation_uses_goes(tmp_path: Path) -> None:
    layout = with_generations(tmp_path, *range(1, 12))
    for number in range(1, 12):
        laid_down(layout, number, "old" if number < 5 else "new")
    static.take(layout, archive("never-used"))

    def left() -> set[str]:
        activate.collect(layout)
        return {path.name for path in (tmp_path / "var/lib/clan/static").iterdir()}

    layout.choose(CURRENT, 11)
    layout.choose(CONFIRMED, 3)
    assert left() == {"no-such-program-old", "no-such-program-new"}
    layout.generation(12).mkdir()
    (layout.generation(12) / MANIFEST).write_text("{}")
    for which in (CURRENT, CONFIRMED):
        layout.choose(which, 12)
    assert left() == {"no-such-program-new"}


def test_a_machine_says_which_it_lacks_unless_it_comes_with_the_task(tmp_path: Path) -> None:
    layout = with_generations(tmp_path, 1)
    wanted = [program("a")]
    told = lacks(layout, NOTHING, (), wanted)
    assert told is not None
    assert told["lacks"]["static"] == ["no-such-program"]
    assert told["lacks"]["architecture"]
    assert lacks(layout, NOTHING, (), wanted, ["no-such-program-a"]) is None
    assert lacks(layout, NOTHING, (), wanted, ["no-such-program-b"]) == told
    laid_down(layout, 1, "a")
    assert lacks(layout, NOTHING, (), wanted) is None
    assert lacks(layout, NOTHING, (), [program("b")]) == told


def test_one_that_somebody_put_there_is_as_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "no-such-program"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert lacks(with_generations(tmp_path, 1), NOTHING, (), [program("a")]) is None
    assert static.find("no-such-program") == str(own)


def test_a_package_may_be_wanted_in_its_stead(tmp_path: Path) -> None:
    """It is missing: what can be done about that is said, or left to apt."""
    given = Given(way=tmp_path / "way", instead=("no-such-package",))
    assert lacks(with_generations(tmp_path, 1), given, (), [program("a")]) is None
    assert given.words() == ["--way", str(tmp_path / "way"), "--instead", "no-such-package"]
