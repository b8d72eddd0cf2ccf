"""Which host keys `clan ssh` takes, of whom, and whom it asks."""

from __future__ import annotations

import os
import pty
import shutil
from typing import TYPE_CHECKING

import pytest
from tests.cli.family import CLAN, Family
from tests.sshd import Sshd, serving

if TYPE_CHECKING:
    from pathlib import Path


def test_first_contact_without_a_terminal_is_refused_with_the_way_on(
    family: Family, nas: Sshd
) -> None:
    family.write(internet=(2000, nas.port))
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert f"127.0.0.1:{nas.port} on network internet showed SHA256:" in done.stderr
    assert "--host-key accept-new" in done.stderr
    assert family.known() is None


def test_accept_new_records_the_key_and_holds_to_it(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    family.write(internet=(2000, nas.port))
    assert family.ssh("--host-key", "accept-new", "nas", "true").returncode == 0
    assert family.known() == nas.key
    family.write(internet=(2000, impostor.port))
    done = family.ssh("--host-key", "accept-new", "nas", "true")
    assert done.returncode == 255
    assert "is not nas" in done.stderr
    assert family.known() == nas.key


def test_another_key_sets_the_address_aside_and_the_next_network_is_used(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    family.write(cafe=(3000, impostor.port), internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("nas", "echo in")
    assert (done.stdout, done.returncode) == ("in\n", 0)
    assert f"warning: 127.0.0.1:{impostor.port} on network cafe is not nas" in done.stderr
    assert "REMOTE HOST IDENTIFICATION" not in done.stderr
    again = family.ssh("nas", "echo in")
    assert again.stderr == f"nas: over internet, 127.0.0.1:{nas.port}\n"


def test_a_stranger_without_such_a_key_is_passed_by_too(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    """An old device in a café that answers to the name, and has no Ed25519 key at all."""
    with serving(tmp_path, "old", family.keys, kind="ecdsa") as old:
        family.write(cafe=(3000, old.port), internet=(2000, nas.port))
        family.knows(nas.key)
        done = family.ssh("nas", "echo in")
        assert (done.stdout, done.returncode) == ("in\n", 0)
        refused, used = done.stderr.splitlines()[1:]
        assert refused.startswith(
            f"warning: 127.0.0.1:{old.port} on network cafe did not prove to be nas: "
        )
        assert "no matching host key type" in refused
        assert used == f"nas: over internet, 127.0.0.1:{nas.port}"
        again = family.ssh("nas", "echo in")
        assert again.stderr == f"nas: over internet, 127.0.0.1:{nas.port}\n"
        family.write(cafe=(3000, old.port))
        alone = family.ssh("nas", "echo in")
        assert alone.returncode == 255
        assert "error: what answers for nas now is not nas" in alone.stderr


def test_a_machine_installed_anew_is_met_again_as_the_hint_says(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(impostor.key)
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert "delete its recorded key, vars/per-machine/nas/openssh" in done.stderr
    shutil.rmtree(family.folder / "vars/per-machine/nas/openssh")
    assert family.ssh("--host-key", "accept-new", "nas", "true").returncode == 0
    assert family.known() == nas.key


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        (b"ssh-rsa AAAA", "the recorded host key of nas is no Ed25519 key"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "cannot be read: Is a directory"),
    ],
)
def test_a_recorded_key_that_is_none_is_told_with_its_file(
    family: Family, nas: Sshd, recorded: bytes | None, said: str
) -> None:
    family.write(internet=(2000, nas.port))
    file = family.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
    file.mkdir(parents=True)
    if recorded is not None:
        file.rmdir()
        file.write_bytes(recorded)
    for words in (("ssh", "nas"), ("connect", "nas")):
        done = family.run(*words)
        assert done.returncode == {"ssh": 255, "connect": 1}[words[0]]
        assert done.stderr.startswith(f"error: {file}: ")
        assert said in done.stderr
    seen = family.run("network", "overview")
    assert seen.returncode == 0
    assert said in seen.stdout


def test_a_first_key_that_cannot_be_recorded_is_not_taken(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    (family.folder / "vars").symlink_to("nowhere")
    done = family.ssh("--host-key", "accept-new", "nas", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)
    assert f"error: {family.folder / 'vars'}: File exists" in done.stderr


def test_a_user_s_options_never_replace_the_demand_for_the_host_key(
    family: Family, impostor: Sshd, nas: Sshd
) -> None:
    family.write(internet=(2000, impostor.port))
    family.knows(nas.key)
    done = family.ssh("-o", "StrictHostKeyChecking=no", "-o", "HostKeyAlias=x", "nas", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)


def test_first_contact_at_a_terminal_asks_naming_network_and_address(
    family: Family, nas: Sshd
) -> None:
    family.write(internet=(2000, nas.port))
    seen, status = at_a_terminal(family, ["yes\n"])
    assert f"127.0.0.1:{nas.port} on network internet" in seen
    assert "SHA256:" in seen
    assert status == 0
    assert "hello" in seen
    assert family.known() == nas.key


def test_first_contact_that_is_declined_records_nothing(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    seen, status = at_a_terminal(family, ["perhaps\n", "no\n"])
    assert "Please type yes or no" in seen
    assert "was not confirmed" in seen
    assert status == 255
    assert family.known() is None


def test_ctrl_c_at_the_question_ends_it_without_a_word(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    seen, status = at_a_terminal(family, ["\x03"])
    assert status == 130
    assert "[yes/no]" in seen
    assert "Traceback" not in seen
    assert family.known() is None


def at_a_terminal(family: Family, answers: list[str]) -> tuple[str, int]:
    """Run `clan ssh nas echo hello` at a terminal and type the answers when asked."""
    child, terminal = pty.fork()
    words = [*CLAN, "--clan", str(family.folder), "ssh", *family.keys.options]
    if child == 0:
        os.execv(words[0], [*words, "nas", "echo hello"])
    seen = ""
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not data:
            break
        seen += data.decode()
        if answers and seen.rstrip().endswith(("[yes/no]", "yes or no:")):
            os.write(terminal, answers.pop(0).encode())
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return seen, os.waitstatus_to_exitcode(status)
