"""Machines have Debian's Python and its python3-cryptography, years older than the admin's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"
STORY = """
import sys
from pathlib import Path
from tests.mesh.signers import ALICE, BOB, NOW, ROOT, content, key, signed
from clan.mesh import identity, seal
from clan.mesh.chart.store import Store

own = identity.born(Path(sys.argv[1]) / "identity")
assert identity.read(Path(sys.argv[1]) / "identity") == own
first = signed(content("nas", "phone", "tv"))
second = signed(content("nas", "tv"), BOB, after=[first])
store = Store(Path(sys.argv[1]) / "mesh", ROOT.public)
assert store.offer(first.raw).outcome == "newer"
question, sent = seal.ask(key("nas"), first.content.secrets[0].key, store.held().top)
request = seal.read_request(seal.recognise(second.content.secrets, sent, NOW).request)
answer = seal.answer(request, second.content.identities, second.raw)
assert store.offer(seal.open_answer(question, answer)).outcome == "newer"
"""


def test_it_runs_on_a_machine_s_own_python(tmp_path: Path) -> None:
    if not os.access(PYTHON, os.X_OK):
        pytest.skip(f"there is no {PYTHON}")
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    has = subprocess.run([PYTHON, "-c", "import cryptography"], check=False, capture_output=True)
    if has.returncode:
        pytest.skip(f"{PYTHON} has no cryptography")
    subprocess.run([PYTHON, "-c", STORY, tmp_path], check=True, env=environment)
