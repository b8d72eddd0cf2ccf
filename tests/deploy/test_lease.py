"""Whoever died at a machine is known by its token; whoever is still at it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.deploy.lease import Leases

if TYPE_CHECKING:
    from pathlib import Path


def test_one_that_died_leaves_its_token(tmp_path: Path) -> None:
    leases = Leases(folder=tmp_path)
    with leases.lease("nas", "a" * 32) as lease:
        assert lease.former == ""  # and it is not known to be over
    with leases.lease("nas", "b" * 32) as lease:
        assert lease.former == "a" * 32
        lease.over = True
    with leases.lease("nas", "c" * 32) as lease:
        assert lease.former == ""


def test_one_that_is_at_it_is_not_taken_over(tmp_path: Path) -> None:
    leases = Leases(folder=tmp_path)
    with leases.lease("nas", "a" * 32), leases.lease("nas", "b" * 32) as second:
        assert second.former == ""
        second.over = True
    with leases.lease("nas", "c" * 32) as lease:
        assert lease.former == "a" * 32


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    with Leases(folder=tmp_path / "updates").lease("nas", "a" * 32):
        for path, mode in ((tmp_path / "updates", 0o700), (tmp_path / "updates/nas", 0o600)):
            assert path.stat().st_mode & 0o777 == mode


def test_a_folder_that_cannot_be_made_costs_only_that(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Leases(folder=tmp_path / "file" / "updates").lease("nas", "a" * 32) as lease:
        assert lease.former == ""
