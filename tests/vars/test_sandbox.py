"""Scripts see their inputs and programs, nothing else, and leave nothing on a disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Family, made

from clan.errors import ClanError, MissingProgramError
from clan.model.exports import Var
from clan.model.generator import Generator, Inputs, Prompt, Script, VarFile
from clan.vars.sandbox import run_script

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
NOTHING = Inputs(prompts={}, files={})


def run(text: str, inputs: Inputs = NOTHING, *programs: str) -> dict[str, bytes]:
    return run_script(Script(text=text, programs=programs), inputs, what="generator nas/x")


def test_a_script_reads_what_it_is_given_and_its_files_are_kept(family: Family) -> None:
    script = Generator(
        name="script",
        machine="nas",
        files=(VarFile(name="both"), VarFile(name="id", secret=False)),
        make=Script(text='cat "$in/token/value" "$prompts/pin" > "$out/both"; echo 7 > $out/id'),
        depends=("token",),
        prompts=(Prompt(name="pin", description="PIN"),),
    )
    family.ask = lambda _, __: "1234"
    family.generate(made("token", make=lambda _: {"value": b"\0token-"}), script)
    assert (
        family.store.value(Var(machine="nas", generator="script", file="both")) == b"\0token-1234"
    )
    assert family.store.read("nas", "script", "id") == "7"


def test_a_script_sees_no_file_of_this_computer_and_no_network(tmp_path: Path) -> None:
    (tmp_path / "age.key").write_text("secret")
    made_there = run(
        f"""
        for path in /home /root /etc/passwd /etc/shadow /var {tmp_path}/age.key; do
            if [ -e $path ]; then echo $path >> $out/seen; fi
        done
        env | cut -d= -f1 | sort | tr '\\n' ' ' > $out/env
        cat /proc/net/dev | grep -c : > $out/links || true
        if touch /usr/x 2>/dev/null; then echo /usr >> $out/written; fi
        """
    )
    assert sorted(made_there) == ["env", "links"]
    assert made_there["links"] == b"1\n"  # lo
    assert made_there["env"].split() == [*b"HOME LC_ALL PATH PWD SHLVL _ in out prompts".split()]


def test_what_a_script_prints_is_no_output() -> None:
    assert run("echo noise; printf x > $out/file") == {"file": b"x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo sorry >&2; exit 3", "the script failed\n  sorry"),
        ("false | true; echo > $out/x", "the script failed"),
        ("echo $unset", "unbound variable"),
        ("ln -s /etc/passwd $out/link", "'link', which is no plain file"),
        ("mkdir $out/folder", "'folder', which is no plain file"),
        ("mkfifo $out/pipe", "'pipe', which is no plain file"),
    ],
)
def test_a_script_that_fails_says_how(text: str, said: str) -> None:
    with pytest.raises(ClanError) as caught:
        run(text)
    assert said in str(caught.value)
    assert "generator nas/x" in str(caught.value)


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingProgramError, match="'frobnicate'"):
        run("true", NOTHING, "frobnicate")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="`bwrap` is not installed") as caught:
        run("true")
    assert caught.value.hint == "install the package bubblewrap"
