"""A relay's certificate: made once, the same ever after, on Debian's Python too."""

from __future__ import annotations

import hashlib
import os
import ssl
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clan.mesh.errors import MeshError
from clan.mesh.tls import certificate

ROOT = Path(__file__).parents[3]
PYTHON = "/usr/bin/python3"
STORY = """
import sys
from pathlib import Path
from clan.mesh.tls import certificate, service
made = certificate.born(Path(sys.argv[1]))
made.context()
print(made.hash.hex())
"""


def test_it_is_made_once_for_root_alone_and_names_nobody(tmp_path: Path) -> None:
    made = certificate.born(tmp_path)
    assert certificate.born(tmp_path) == made
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert certificate.born(tmp_path / "other").hash != made.hash
    there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
    relay = made.context().wrap_bio(here, there, server_side=True)
    machine = certificate.calling(pinned=True).wrap_bio(there, here)
    for side in (machine, relay, machine):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert machine.version() == "TLSv1.3"
    shown = machine.getpeercert(binary_form=True)
    assert shown is not None
    assert hashlib.sha256(shown).digest() == made.hash
    assert b"clan" not in shown


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / certificate.FILE).write_text("x")
    with pytest.raises(MeshError, match="remove it"):
        certificate.born(tmp_path)


def test_it_is_made_with_a_machine_s_own_python(tmp_path: Path) -> None:
    has = [PYTHON, "-c", "import cryptography"]
    if not os.access(PYTHON, os.X_OK) or subprocess.run(has, check=False).returncode:
        pytest.skip(f"{PYTHON} is missing, or has no cryptography")
    environment = {"PYTHONPATH": f"{ROOT / 'src'}", "PYTHONDONTWRITEBYTECODE": "1"}
    words = [PYTHON, "-c", STORY, str(tmp_path)]
    said = subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
    assert said.stdout.strip() == certificate.born(tmp_path).hash.hex()


def test_of_two_processes_that_make_one_both_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: certificate.born(tmp_path), range(8)))
    assert len({each.hash for each in made}) == 1
    assert [each.name for each in tmp_path.iterdir()] == [certificate.FILE]
