"""Today's wireguard-go: built once, kept by what is pinned, and done without where it fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clan.lab import machine, wireguard_go

if TYPE_CHECKING:
    from pathlib import Path

GO = """\
#!/bin/sh
if [ "$1" = version ]; then echo "go version go1.99.1 linux/amd64"; exit; fi
echo "$*" >>"${0%/*}/calls"
[ "$CGO_ENABLED:$GOTOOLCHAIN" = 0:local ] || exit 9
while [ "$1" != -o ]; do shift; done
LAST
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLAN_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "cache"


def go(folder: Path, last: str) -> None:
    """Put a toolchain on the PATH whose build ends with this command."""
    (folder / "go").write_text(GO.replace("LAST", last))
    (folder / "go").chmod(0o755)


def test_it_is_built_once_and_then_found(cache: Path, tmp_path: Path) -> None:
    go(tmp_path, 'echo built >"$2"; chmod +x "$2"')
    said: list[str] = []
    assert wireguard_go.find() is None
    assert machine.helpers() == []
    built = wireguard_go.build(said.append)
    assert built == wireguard_go.find() == wireguard_go.wanted()
    assert wireguard_go.build(said.append) == built
    assert said == ["building wireguard-go"]
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert machine.helpers() == [f"--bind-ro={built}:/usr/local/bin/wireguard-go"]
    assert [path.name for path in cache.iterdir()] == [wireguard_go.wanted().name]


def test_where_it_cannot_be_built_debians_is_used_with_a_word(cache: Path, tmp_path: Path) -> None:
    go(tmp_path, "echo no way to the module proxy >&2; exit 1")
    said: list[str] = []
    assert wireguard_go.build(said.append) is None
    assert said[-1].endswith(
        "no way to the module proxy; the lab's machines use Debian's wireguard-go, which is slower"
    )
    assert list(cache.iterdir()) == []


def test_a_toolchain_that_is_too_old_is_not_used(cache: Path, tmp_path: Path) -> None:
    del cache
    go(tmp_path, "exit 1")
    assert wireguard_go._go() == str(tmp_path / "go")
    (tmp_path / "go").write_text(GO.replace("go1.99.1", "go1.19.8"))
    assert wireguard_go._go() is None
    (tmp_path / "go").unlink()
    assert wireguard_go._go() is None
