from __future__ import annotations

import pytest

from clan.errors import Fault, did_you_mean, dotted


def test_a_fault_names_file_line_key_and_what_to_do() -> None:
    fault = Fault(
        message="unknown machine 'nsa'",
        key=("instances", "lan", "roles", "default", "machines", "nsa"),
        hint="did you mean 'nas'?",
        file="clan.toml",
        line=7,
    )
    assert str(fault) == (
        "clan.toml:7: instances.lan.roles.default.machines.nsa: "
        "unknown machine 'nsa' (did you mean 'nas'?)"
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("machines", "nas", "tags", 0), "machines.nas.tags[0]"),
        (("machines", "my nas"), 'machines."my nas"'),
        (("a", 'say "hi"'), 'a."say \\"hi\\""'),
        ((), ""),
    ],
)
def test_a_key_path_is_written_as_toml_would(key: tuple[str | int, ...], text: str) -> None:
    assert dotted(key) == text


def test_what_a_file_holds_cannot_command_the_terminal() -> None:
    fault = Fault(message="unknown key 'x'", key=("\x1b[2J", "a\nb"), file="clan.toml")
    assert str(fault) == 'clan.toml: "\\x1b[2J"."a\\nb": unknown key \'x\''


def test_did_you_mean_stays_silent_when_nothing_is_near() -> None:
    assert did_you_mean("nsa", ["nas", "vps"]) == "did you mean 'nas'?"
    assert did_you_mean("printer", ["nas", "vps"]) is None
