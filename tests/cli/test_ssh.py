"""`clan ssh`, `clan connect` and plain ssh against real servers on loopback."""

from __future__ import annotations

import getpass
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Keys, Sshd, free_port, make_key, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAN = [sys.executable, "-m", "clan"]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    identity = tmp_path / "id"
    make_key(identity)
    return Keys(identity=identity)


@pytest.fixture
def nas(tmp_path: Path, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path, "nas", keys) as server:
        yield server


@pytest.fixture
def impostor(tmp_path: Path, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path, "impostor", keys) as server:
        yield server


class Family:
    """A clan with one machine, `nas`, and what running commands for it printed."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self.keys = keys
        folder.mkdir()
        self.networks: dict[str, tuple[int, str]] = {}

    def write(self, **networks: tuple[int, int]) -> None:
        """Write the clan: network -> (priority, port of the server that answers there)."""
        lines = ["[meta]", 'name = "family"', "[machines.nas]"]
        for name, (priority, port) in networks.items():
            lines += [
                f"[instances.{name}]",
                'module.name = "internet"',
                f"settings.priority = {priority}",
                f"[instances.{name}.roles.default.machines.nas.settings]",
                'host = "127.0.0.1"',
                f"port = {port}",
                f'user = "{getpass.getuser()}"',
            ]
        (self.folder / "clan.toml").write_text("\n".join(lines) + "\n")

    def knows(self, key: str) -> None:
        file = self.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
        file.parent.mkdir(parents=True)
        file.write_text(key + "\n")

    def known(self) -> str | None:
        file = self.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
        return file.read_text().strip() if file.exists() else None

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLAN, "--clan", str(self.folder), *words],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # no terminal: nothing may ask
            timeout=60,
            env={**os.environ, **more},
        )

    def ssh(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("ssh", *self.keys.options, *words, **more)


@pytest.fixture
def family(tmp_path: Path, keys: Keys) -> Family:
    return Family(tmp_path / "family", keys)


def test_a_command_runs_and_its_status_is_passed_through(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("nas", "--", "echo hello; exit 7")
    assert (done.stdout, done.returncode) == ("hello\n", 7)
    assert done.stderr == f"nas: over internet, 127.0.0.1:{nas.port}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("nas", "echo", "-n", "-q", "--json"),
        ("nas", "--", "echo", "-n", "-q", "--json"),
        ("--quiet", "nas", "--network", "internet", "echo", "-n", "-q", "--json"),
    ],
)
def test_the_options_of_the_command_are_its_own(
    family: Family, nas: Sshd, words: tuple[str, ...]
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    assert family.ssh(*words).stdout == "-q --json"


def test_the_machine_is_found_by_its_full_name_too(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    assert family.ssh("--quiet", "nas.family", "true").returncode == 0


def test_what_the_remote_says_on_stderr_is_not_held_back(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("-q", "nas", "echo problem >&2")
    assert done.stderr == "problem\n"


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


def test_a_fault_of_ssh_s_own_is_told_once_in_its_words(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("-o", "NoSuchOption=1", "nas", "true")
    assert done.returncode == 255
    assert "Bad configuration option: nosuchoption" in done.stderr
    assert done.stderr.count("nas: over") == 1


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


def test_a_server_that_lets_nobody_in_says_so_in_ssh_s_words(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    stranger = tmp_path / "stranger"
    make_key(stranger)
    done = family.run(
        "ssh", "-o", f"IdentityFile={stranger}", "-o", "IdentitiesOnly=yes", "nas", "true"
    )
    assert done.returncode == 255
    assert "Permission denied (publickey" in done.stderr


def test_a_machine_that_is_off_has_a_reason_for_every_network(family: Family) -> None:
    family.write(internet=(2000, free_port()), other=(1000, free_port()))
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert "no network leads to nas" in done.stderr
    assert done.stderr.count("connection refused") == 2
    assert "clan network ping nas" in done.stderr


def test_a_missing_ssh_is_named_with_the_package_that_has_it(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("nas", "true", PATH=str(tmp_path))
    assert done.returncode == 255
    assert "`ssh` is not on PATH" in done.stderr
    assert "openssh-client" in done.stderr


def test_an_unknown_machine_gets_the_nearest_name(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    done = family.ssh("nsa", "true")
    assert done.returncode == 255
    assert "did you mean 'nas'?" in done.stderr


def test_wrong_usage_is_255_as_with_ssh(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    assert family.ssh("--no-such-option", "nas").returncode == 255
    assert family.ssh("--network", "lan", "nas").returncode == 255


def test_target_host_goes_around_all_networks(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, free_port()))
    family.knows(nas.key)
    user = getpass.getuser()
    done = family.ssh("--target-host", f"{user}@127.0.0.1:{nas.port}", "nas", "echo in")
    assert done.stdout == "in\n"
    assert "is no port" in family.ssh("--target-host", "x:99999", "nas").stderr


def test_a_user_s_options_never_replace_the_demand_for_the_host_key(
    family: Family, impostor: Sshd, nas: Sshd
) -> None:
    family.write(internet=(2000, impostor.port))
    family.knows(nas.key)
    done = family.ssh("-o", "StrictHostKeyChecking=no", "-o", "HostKeyAlias=x", "nas", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)


def test_explain_says_what_was_tried_and_why_the_winner_won(family: Family, nas: Sshd) -> None:
    family.write(first=(3000, free_port()), second=(2000, nas.port), third=(1, nas.port + 1))
    family.knows(nas.key)
    done = family.ssh("--explain", "nas", "true")
    assert "first   priority 3000" in done.stderr
    assert "connection refused" in done.stderr
    assert "second won: the best of those that answered (first did not)" in done.stderr
    assert "not needed" in done.stderr
    data = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    assert [attempt["result"] for attempt in data["attempts"]] == [
        "connected",
        "unneeded",
        "unneeded",
    ]


def test_dry_run_connects_to_nothing(family: Family) -> None:
    family.write(internet=(2000, free_port()))
    done = family.ssh("--dry-run", "nas")
    assert done.returncode == 0
    assert "internet: 127.0.0.1 (priority 2000)" in done.stdout
    data = json.loads(family.ssh("--dry-run", "--json", "nas").stdout)
    assert [entry["network"]["name"] for entry in data["order"]] == ["internet"]


def test_a_network_that_failed_is_remembered_and_not_waited_for(family: Family, nas: Sshd) -> None:
    family.write(dead=(3000, free_port()), internet=(2000, nas.port))
    family.knows(nas.key)
    first = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    second = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    assert [a["network"] for a in first["attempts"]] == ["dead", "internet"]
    assert [a["network"] for a in second["attempts"]] == ["internet", "dead"]


def test_a_network_module_that_crashes_costs_only_itself(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    (family.folder / "modules").mkdir()
    (family.folder / "modules/carrier.py").write_text(CRASHING)
    with (family.folder / "clan.toml").open("a") as file:
        file.write("[instances.carrier.roles.default.machines.nas]\n")
    done = family.ssh("--explain", "nas", "echo in")
    assert done.stdout == "in\n"
    assert "crashed: ZeroDivisionError" in done.stderr
    pinged = family.run("network", "ping", "nas")
    assert "crashed: ZeroDivisionError" in pinged.stdout
    listed = family.run("network", "list")
    assert listed.returncode == 0
    assert "carrier   9000      carrier   ?        nas" in listed.stdout
    assert "carrier: crashed: ZeroDivisionError" in listed.stderr


def test_a_network_that_knows_one_address_is_not_asked_for_it_again(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    family.write()
    family.knows(nas.key)
    (family.folder / "modules").mkdir()
    head, _, tail = CRASHING.partition("        return 1 / 0\n\n\nclass module")
    dial = f"""
        sock = socket.create_connection(("127.0.0.1", {impostor.port}))
        sock.setblocking(False)
        return Connection(sock=sock, address="there", rtt=0.0)


class module"""
    imports = "import socket\nfrom clan.networks.technology import Connection\n"
    (family.folder / "modules/carrier.py").write_text(imports + head + dial + tail)
    with (family.folder / "clan.toml").open("a") as file:
        file.write("[instances.carrier.roles.default.machines.nas]\n")
    done = family.ssh("nas", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)
    assert done.stderr.count("warning: there on network carrier is not nas") == 1
    assert "carrier  set aside: there showed another host key, or none" in done.stderr


CRASHING = """
import contextlib

from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Role
from clan.networks.technology import NetworkTechnology, Session, Throughput, Traits


class Carrier(NetworkTechnology):
    traits = Traits(throughput=Throughput.HIGH)

    def running(self, network, context):
        return 1 / 0

    def patience(self, route):
        return 1 / 0

    @contextlib.asynccontextmanager
    async def session(self, network, context):
        yield Crashing()


class Crashing(Session):
    async def dial(self, route, aim):
        return 1 / 0


class module(Module):
    name = "carrier"
    description = "Crashes."
    roles = {"default": Role(description="Anyone.")}

    def exports(self, instance, clan):
        peers = {name: Peer(name=name, hosts=("x",)) for name in instance.members["default"]}
        return Exports(networking=Networking(priority=9000, technology=":Carrier", peers=peers))
"""


def test_plain_ssh_uses_the_same_choice_and_the_same_key(
    family: Family, nas: Sshd, impostor: Sshd, tmp_path: Path
) -> None:
    family.write(cafe=(3000, impostor.port), internet=(2000, nas.port))
    family.knows(nas.key)
    config = tmp_path / "config"
    config.write_text(family.run("ssh-config").stdout)
    ssh = ["ssh", "-F", str(config), "-i", str(family.keys.identity), "nas.family", "echo in"]
    first = subprocess.run(ssh, check=False, capture_output=True, text=True, timeout=60)
    assert first.returncode == 255
    assert f"127.0.0.1:{impostor.port} on network cafe is not nas" in first.stderr
    second = subprocess.run(ssh, check=False, capture_output=True, text=True, timeout=60)
    assert (second.stdout, second.returncode) == ("in\n", 0)


def test_plain_ssh_told_to_take_any_key_takes_the_machine_s_alone(
    family: Family, nas: Sshd, impostor: Sshd, tmp_path: Path
) -> None:
    """ssh keeps the first value that it finds, and a user's own lines may stand above ours."""
    config = tmp_path / "config"
    family.write(cafe=(3000, impostor.port))
    config.write_text("Host *\n  StrictHostKeyChecking no\n" + family.run("ssh-config").stdout)
    ssh = ["ssh", "-F", str(config), "-i", str(family.keys.identity), "nas.family", "echo in"]

    def plain() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ssh, check=False, capture_output=True, text=True, timeout=60, start_new_session=True
        )

    unknown = plain()
    assert (unknown.stdout, unknown.returncode) == ("", 255)
    assert "is not known yet" in unknown.stderr
    family.knows(nas.key)
    wrong = plain()
    assert (wrong.stdout, wrong.returncode) == ("", 255)
    assert "is not nas" in wrong.stderr
    family.write(internet=(2000, nas.port))
    assert plain().stdout == "in\n"


@pytest.mark.skipif(shutil.which("scp") is None, reason="no scp on this computer")
def test_scp_and_sftp_work_through_the_printed_lines(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    config = tmp_path / "config"
    config.write_text(family.run("ssh-config").stdout)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(os.urandom(300_000))
    subprocess.run(
        ["scp", "-q", "-O", "-F", config, "-i", family.keys.identity, source,
         f"nas.family:{target}"],
        check=True, timeout=60,
    )  # fmt: skip
    assert target.read_bytes() == source.read_bytes()


def test_connect_carries_bytes_where_no_descriptor_can_be_passed(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    done = family.run("connect", "nas")
    # Standard input is at its end, so sshd greets and leaves.
    assert done.stdout.startswith("SSH-2.0-")
    assert done.returncode == 0


def test_connect_reaches_other_ports_without_waiting_for_a_banner(
    family: Family, nas: Sshd
) -> None:
    family.write(internet=(2000, free_port()))
    done = family.run("connect", "nas", str(nas.port))
    assert done.stdout.startswith("SSH-2.0-")


def test_connect_to_a_machine_that_is_off_exits_with_4(family: Family) -> None:
    family.write(internet=(2000, free_port()))
    assert family.run("connect", "nas").returncode == 4


def test_a_jump_host_that_is_a_machine_of_the_clan(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    """`impostor` is an honest server here: the way to nas leads through it."""
    user = getpass.getuser()
    (family.folder / "clan.toml").write_text(
        f"""
        [meta]
        name = "family"
        [machines.vps]
        deploy.targetHost = "{user}@127.0.0.1:{impostor.port}"
        [machines.nas]
        [instances.internet.roles.default.machines.vps]
        [instances.internet.roles.default.machines.nas.settings]
        host = "127.0.0.1"
        port = {nas.port}
        user = "{user}"
        jump_hosts = ["{user}@vps"]
        """
    )
    family.knows(nas.key)
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir(mode=0o700)
    # ssh reads ~ from the password database, so the jump's own key is named by its user's config.
    vps = family.folder / "vars/per-machine/vps/openssh/ssh.id_ed25519.pub/value"
    vps.parent.mkdir(parents=True)
    vps.write_text(impostor.key)
    agent = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    variables = dict(
        part.split("=", 1) for line in agent.splitlines() if "=" in (part := line.split(";")[0])
    )
    try:
        subprocess.run(
            ["ssh-add", "-q", str(family.keys.identity)],
            check=True,
            env={**os.environ, **variables},
        )
        done = family.ssh("nas", "echo in", **variables)
    finally:
        os.kill(int(variables["SSH_AGENT_PID"]), 15)
    assert (done.stdout, done.returncode) == ("in\n", 0), done.stderr
    assert f"127.0.0.1:{nas.port} via vps.family" in done.stderr
    assert "internet: 127.0.0.1 via vps.family (" in family.ssh("--dry-run", "nas").stdout


def test_what_answers_for_a_jump_host_without_its_key_is_not_gone_through(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    user = getpass.getuser()
    (family.folder / "clan.toml").write_text(
        f"""
        [meta]
        name = "family"
        [machines.vps]
        deploy.targetHost = "{user}@127.0.0.1:{impostor.port}"
        [machines.nas]
        [instances.internet.roles.default.machines.vps]
        [instances.internet.roles.default.machines.nas.settings]
        host = "127.0.0.1"
        port = {nas.port}
        jump_hosts = ["vps"]
        """
    )
    vps = family.folder / "vars/per-machine/vps/openssh/ssh.id_ed25519.pub/value"
    vps.parent.mkdir(parents=True)
    vps.write_text(nas.key)
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert "via vps.family: what answers for vps now is not vps\n" in done.stderr


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
