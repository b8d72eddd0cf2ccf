from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from clan.system.git import stage, work_tree

if TYPE_CHECKING:
    from pathlib import Path


def git(directory: Path, *arguments: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(directory), *author, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "clan.toml").write_text("old")
    (tmp_path / "vars").mkdir()
    (tmp_path / "vars/old").write_text("x")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_changed_new_and_gone_files_are_staged_and_nothing_is_committed(repository: Path) -> None:
    (repository / "clan.toml").write_text("new")
    (repository / "vars/old").rename(repository / "vars/new")
    (repository / "other").write_text("not ours")
    names = ["clan.toml", "vars/old", "vars/new", "vars/never"]
    assert stage(repository / "vars", [repository / name for name in names]) is None
    assert (
        git(repository, "status", "--short") == "M  clan.toml\nR  vars/old -> vars/new\n?? other\n"
    )
    assert git(repository, "rev-list", "--count", "HEAD") == "1\n"


def test_ignored_files_stay_out_and_do_not_keep_the_others_out(repository: Path) -> None:
    (repository / ".gitignore").write_text("secret\n")
    (repository / "secret").write_text("x")
    (repository / "*").write_text("a name, not a pattern")
    assert stage(repository, [repository / "secret", repository / "*"]) is None
    assert git(repository, "diff", "--cached", "--name-only") == "*\n"


def test_a_hook_of_another_repository_does_not_lead_astray(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    (repository / "clan.toml").write_text("new")
    assert stage(repository, [repository / "clan.toml"]) is None
    monkeypatch.delenv("GIT_DIR")
    assert git(repository, "diff", "--cached", "--name-only") == "clan.toml\n"


def test_what_git_complains_of_is_told(repository: Path) -> None:
    (repository / ".git/index.lock").touch()
    (repository / "clan.toml").write_text("new")
    assert "index.lock" in (stage(repository, [repository / "clan.toml"]) or "")


def test_without_git_nothing_happens(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert stage(repository, [repository / "clan.toml"]) is None


def test_outside_a_work_tree_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "clan.toml").write_text("new")
    assert work_tree(tmp_path) is None
    assert stage(tmp_path, [tmp_path / "clan.toml"]) is None
