"""A machine that reaches no package archive: its own apt fetches through the admin's computer."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.lab.office import LAB, Office, Wish, wish

from clan.lab import image
from clan.lab.built import at_admin
from clan.lab.cuts import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

MACHINES = ("nas", "other", "mirror")
HTTP, HTTPS, DNS = 80, 443, 53
SOURCE = "/etc/apt/sources.list.d/lab.sources"
SERVE = ["systemd-run", "--quiet", "--unit=mirror", "--property=WorkingDirectory=/srv"]
SERVE_TLS = ["systemd-run", "--quiet", "--unit=tls", "--property=WorkingDirectory=/srv"]
TLS = """
import http.server, ssl
server = http.server.HTTPServer(("", 443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/mirror.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def certificate(name: str) -> str:
    """Make a key and a certificate that it signs itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private + made.public_bytes(serialization.Encoding.PEM)).decode()


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    text = LAB + "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in MACHINES)
    names = "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
    return labs(f"{text}[names]\n{names}")


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Office:
    office = Office(lab)
    secluded(office, "nas")
    office.wants(nas=wish("old"))
    done = office.clan("machines", "install", "nas", check=True)
    assert "through this computer, from deb.lab" in done.stderr
    return office


@pytest.fixture
def office(installed: Office) -> Iterator[Office]:
    secluded(installed, "nas")
    yield installed
    installed.lab.restore()


def secluded(office: Office, machine: str) -> None:
    """Keep a machine from archives and name servers; ssh still leads to it."""
    for port in (HTTP, HTTPS, DNS):
        office.lab.cut(Cut(what=machine, port=port))


def has(office: Office, package: str) -> bool:
    words = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    return office.lab.exec("nas", words, check=False).stdout == "installed"


def shell(office: Office, command: str, machine: str = "nas") -> str:
    return office.lab.exec(machine, ["sh", "-c", command], check=False).stdout.strip()


def test_it_becomes_a_member_and_nothing_of_the_way_is_left(office: Office) -> None:
    assert office.settles("nas")["state"] == "up to date"
    assert has(office, "age")
    assert shell(office, "ls /run | grep archive") == ""
    assert shell(office, "grep -ril proxy /etc/apt /tmp") == ""
    assert shell(office, "ss -Hltnp | grep -E 'python|127.0.0.1:'") == ""


def test_a_package_s_daemon_does_not_start_and_a_rollback_keeps_it(office: Office) -> None:
    number = office.settles("nas")["current"]
    assert not has(office, "tor")
    office.wants(nas=wish("new", packages=("tor",)))
    (outcome,) = office.update("nas")
    assert outcome["state"] == "updated", outcome
    assert has(office, "tor")
    assert shell(office, "systemctl is-active tor.service tor@default.service").split() == [
        "inactive",
        "inactive",
    ]
    assert shell(office, "systemctl is-enabled tor.service") == "disabled"
    assert shell(office, "pgrep -x tor; ls /usr/sbin/policy-rc.d") == ""
    office.clan("machines", "rollback", "nas", str(number), check=True)
    assert office.text("nas") == "old"
    assert has(office, "tor")


def test_with_the_admin_offline_too_one_error_says_what_is_missing(office: Office) -> None:
    before = office.settles("nas")
    had = shell(office, "ls /var/lib/clan/generations")
    office.lab.cut(Cut(what="admin", port=HTTP))
    office.wants(nas=wish("newer", packages=("tree",)))
    (outcome,) = office.update("nas")
    assert outcome["state"] == "failed"
    assert outcome["reason"] == (
        "nas lacks tree, and neither it nor this computer reaches a package archive (deb.lab): "
        "connect one of them, or install it there yourself"
    )
    assert office.settles("nas")["current"] == before["current"]
    assert shell(office, "ls /var/lib/clan/generations") == had


def test_a_machine_that_reaches_its_archives_goes_there_itself(office: Office) -> None:
    office.lab.restore()
    office.wants(nas=wish("newer", packages=("tree",)))
    done = office.clan("machines", "update", "nas", check=True)
    assert "through this computer" not in done.stderr
    assert has(office, "tree")
    shell(office, "apt-get -q -y purge tree")


@dataclass
class Mirror:
    """A machine with a copy of the repository, which nas has as its only archive."""

    office: Office

    def begin(self) -> None:
        """Serve the copy, and have nas know of it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(image.find().repository, "debian")
        unpack = self.office.lab.command_on("mirror", ["tar", "-x", "-C", "/srv"])
        subprocess.run(unpack, input=packed.getvalue(), check=True)
        shell(self.office, "cp -a /srv/debian /srv/whole", "mirror")
        serve = [*SERVE, "python3", "-m", "http.server", "80"]
        self.office.lab.exec("mirror", serve)
        wait = "until ss -Hltn sport = :80 | grep -q .; do sleep 0.1; done"
        self.office.lab.exec("mirror", ["timeout", "30", "sh", "-c", wait])
        shell(self.office, f"sed -i s,deb.lab/12,mirror.example/debian, {SOURCE}")

    def mend(self) -> None:
        """Serve what the repository has, and let nas forget what it fetched."""
        shell(self.office, "rm -rf /srv/debian && cp -a /srv/whole /srv/debian", "mirror")
        shell(self.office, "rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb")


@pytest.fixture(scope="module")
def mirror(installed: Office) -> Mirror:
    made = Mirror(installed)
    made.begin()
    return made


# One byte of the package, one word of what the index says of it, and one of what is signed.
TAMPERED = {
    "a package": (
        "f=$(ls /srv/debian/pool/tree_*.deb); printf x | dd of=$f bs=1 seek=200 conv=notrunc",
        "mismatch",
    ),
    "the index": (
        "sed -i s/^Installed-Size:/Installed-Site:/ /srv/debian/dists/lab/main/binary-*/Packages",
        "mismatch",
    ),
    "what is signed": ("sed -i s/^Label:.*/Label:x/ /srv/debian/dists/lab/InRelease", "not signed"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_tampered_with_is_refused(office: Office, mirror: Mirror, what: str) -> None:
    change, refusal = TAMPERED[what]
    before = office.settles("nas")
    mirror.mend()
    shell(office, change, "mirror")
    office.wants(nas=wish(f"{what[-4:].strip()}", packages=("tree",)))
    done = office.clan("machines", "update", "nas")
    assert done.returncode == 1
    assert "tree through this computer, from mirror.example" in done.stderr
    assert refusal in done.stderr
    assert not has(office, "tree")
    assert office.settles("nas")["current"] == before["current"]


def test_what_was_not_tampered_with_is_installed(office: Office, mirror: Mirror) -> None:
    mirror.mend()
    office.wants(nas=wish("mended", packages=("tree",)))
    (outcome,) = office.update("nas")
    assert outcome["state"] == "updated", outcome
    assert has(office, "tree")


def test_an_archive_over_https_is_reached_by_a_tunnel(office: Office, mirror: Mirror) -> None:
    """Its certificate is checked by the machine: to what is on the way it is closed."""
    mirror.mend()
    shell(office, "apt-get -q -y purge tree")
    pem = "/etc/mirror.pem"
    text = certificate("mirror.example")
    for machine in ("mirror", "nas"):
        office.lab.exec(machine, ["tee", pem], text=text)
    office.lab.exec("mirror", [*SERVE_TLS, "python3", "-c", TLS])
    trusted = f'Acquire::https::CaInfo "{pem}";'
    shell(office, f"echo '{trusted}' >/etc/apt/apt.conf.d/99mirror")
    shell(office, f"sed -i s,http://mirror,https://mirror, {SOURCE}")
    office.wants(nas=wish("closed", packages=("tree",)))
    (outcome,) = office.update("nas")
    assert outcome["state"] == "updated", outcome
    assert has(office, "tree")
    asked = shell(office, "journalctl -q -o cat -u tls", "mirror")
    assert "/pool/tree_" in asked


def test_a_program_that_cannot_be_built_is_installed_as_a_package(office: Office) -> None:
    """The admin's place has no way to what it is built from. Keys are made by a package, too."""
    lab = office.lab
    can = "from clan.machine.wireguard import in_kernel; raise SystemExit(not in_kernel())"
    sent = "/var/lib/clan/machine.pyz"
    if not lab.exec(
        "nas", ["env", f"PYTHONPATH={sent}", "python3", "-c", can], check=False
    ).returncode:
        pytest.skip("this computer's kernel has WireGuard")
    shell(office, f"sed -i s,https://mirror.example/debian,http://deb.lab/12, {SOURCE}")
    shutil.rmtree(at_admin(lab.state).folder)
    office.wants(nas=wish("tunnel"))
    clan = lab.clan_dir / "clan.toml"
    settings = "[instances.vpn]\nmodule.name = 'wireguard'\n"
    settings += "[instances.vpn.roles.controller.machines.nas.settings]\nendpoint = 'nas.example'\n"
    clan.write_text(clan.read_text() + settings)
    done = office.clan("machines", "update", "nas", check=True)
    assert "the package wireguard-go is used instead, which may be much slower" in done.stderr
    for package in ("wireguard-tools", "wireguard-go"):
        assert f"{package} through this computer, from deb.lab" in done.stderr
        assert has(office, package)
    runs = shell(office, "readlink /proc/$(pgrep -x wireguard-go)/exe")
    assert runs == "/usr/bin/wireguard-go"


def test_on_another_system_missing_packages_are_listed(office: Office) -> None:
    """It has no apt: what is there is known by its programs."""
    lab = office.lab
    office.wants(other=Wish(packages=("age", "nftables", "tree", "tor")))
    shell(office, "apt-get -q update && apt-get -q -y install age", "other")
    shell(office, "mkdir /root/apt && mv /usr/bin/apt-get /usr/bin/dpkg-query /root/apt", "other")
    done = office.clan("machines", "install", "other")
    assert done.returncode == 1
    listed = "this system is not Debian's: install tor, tree on it yourself"
    assert listed in done.stderr
    assert office.status("other")["generation"] == 0
    for program in ("tree", "tor"):
        write = (
            f"printf '#!/bin/sh\\n' >/usr/local/bin/{program}; chmod +x /usr/local/bin/{program}"
        )
        lab.exec("other", ["sh", "-c", write])
    (outcome,) = office.update("other")
    assert outcome["state"] == "updated", outcome
