"""Onion services' names and files, by published vectors and by Tor itself."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from clan.modules.tor import onion

if TYPE_CHECKING:
    from pathlib import Path

SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
"""RFC 8032, section 7.1, test 1."""
X25519_PRIVATE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
X25519_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
"""RFC 7748, section 6.1: Alice's."""


def test_a_public_key_has_the_name_that_tor_gives_it() -> None:
    # The names are examples of Tor's rend-spec-v3, "Encoding onion addresses".
    for name in (
        "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
        "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
        "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
    ):
        assert onion.is_address(name)
        assert not onion.is_address(name.replace(name[10], "a" if name[10] != "a" else "b", 1))
    assert not onion.is_address("example.onion")


def test_a_service_s_files_hold_the_expanded_key_and_the_public_one() -> None:
    made = onion.service(SEED)
    assert made.public_key == b"== ed25519v1-public: type0 ==\0\0\0" + PUBLIC
    assert made.secret_key.startswith(b"== ed25519v1-secret: type0 ==\0\0\0")
    assert len(made.secret_key) == 96
    assert made.secret_key[32] & 7 == 0
    assert made.secret_key[63] & 0xC0 == 0x40
    assert onion.is_address(made.hostname)


def test_a_client_s_key_in_the_files_and_for_the_control_port() -> None:
    key = onion.client_key(X25519_PRIVATE)
    assert len(key.public) == 52
    assert key.public.isalnum()
    assert onion.as_base64(key.public) == base64.b64encode(X25519_PUBLIC).decode()
    assert onion.service_auth(key.public) == f"descriptor:x25519:{key.public}\n"
    assert onion.client_auth("abc.onion", key.private) == f"abc:descriptor:x25519:{key.private}\n"


@pytest.mark.skipif(shutil.which("tor") is None, reason="no tor on this computer")
def test_tor_takes_the_files_and_writes_the_same_name(tmp_path: Path) -> None:
    made = onion.service(SEED)
    folder = tmp_path / "onion"
    (folder / "authorized_clients").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (folder / "hs_ed25519_secret_key").write_bytes(made.secret_key)
    (folder / "hs_ed25519_public_key").write_bytes(made.public_key)
    auth = onion.service_auth(onion.client_key(X25519_PRIVATE).public)
    (folder / "authorized_clients/clan.auth").write_text(auth)
    torrc = tmp_path / "torrc"
    torrc.write_text(
        f"DataDirectory {tmp_path / 'data'}\nDisableNetwork 1\nSocksPort 0\n"
        f"HiddenServiceDir {folder}\nHiddenServicePort 22 127.0.0.1:22\nLog info stdout\n"
    )
    words = ["tor", "--defaults-torrc", "/dev/null", "-f", str(torrc)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as tor:
        deadline = time.monotonic() + 20
        while not (folder / "hostname").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        tor.terminate()
        said = tor.communicate()[0]
    assert (folder / "hostname").read_text() == f"{made.hostname}\n", said
    assert (folder / "hs_ed25519_secret_key").read_bytes() == made.secret_key
    assert "Loaded a client authorization key file clan.auth." in said
