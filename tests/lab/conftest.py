"""Labs for tests: each is real machines, and gone when its test module is over."""

from __future__ import annotations

import itertools
import json
import os
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.lab.agents import Talk
from tests.lab.internet import Town

from clan.errors import LabError
from clan.lab import image, schema, state
from clan.lab.lab import Lab, down

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS = Path(__file__).parent / "programs"
_PREFIX = "test"
_NUMBERS = itertools.count()
_LONGEST = tuple(f"test_{name}.py" for name in ("mesh_clan", "power", "deaths", "reach", "mesh_vm"))
"""What takes minutes: all else is done beside it if it begins first."""


class Labs(Protocol):
    """Brings up the lab that a lab.toml describes."""

    def __call__(self, text: str, *, clan_dir: Path | None = None) -> Lab:
        """Return the lab, with the text as lab.toml in its clan's folder."""


@pytest.fixture(scope="session")
def lab_ready() -> None:
    """Skip where no lab can run, and say why; take away what killed test runs left."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    try:
        image.find()
    except LabError as missing:
        pytest.skip(f"{missing} ({missing.hint})")
    for name in state.names():
        prefix, _, rest = name.partition("-")
        process = rest.partition("-")[0]
        if prefix == _PREFIX and process.isdecimal() and not Path("/proc", process).exists():
            down(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: `scripts/test` has workers that take file after file."""
    counts = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[int, int, Path]:
        name = item.path.name
        first = _LONGEST.index(name) if name in _LONGEST else len(_LONGEST)
        return first, -counts[item.path], item.path

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """End what a test that failed left going on, before its fixtures are taken away."""
    for talk in list(Talk.open):
        talk.close()


@pytest.fixture
def lab_name(lab_ready: None) -> Iterator[str]:
    """Name a lab that no other test has; it is down at the end."""
    del lab_ready
    name = f"{_PREFIX}-{os.getpid()}-{next(_NUMBERS)}"
    yield name
    down(name)


@pytest.fixture(scope="module")
def labs(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    """Bring up labs that stay until the module's tests are over."""
    del lab_ready
    begun: list[str] = []

    def bring_up(text: str, *, clan_dir: Path | None = None) -> Lab:
        folder = clan_dir or tmp_path_factory.mktemp("clan")
        (folder / "lab.toml").write_text(text)
        begun.append(f"{_PREFIX}-{os.getpid()}-{next(_NUMBERS)}")
        return Lab.up(schema.parse(tomllib.loads(text)), name=begun[-1], clan_dir=folder)

    yield bring_up
    for name in begun:
        down(name)


class Ask(Protocol):
    """Asks the answering machines of a lab, from the admin's place."""

    def __call__(self, lab: Lab, *words: str, on: str | None = None) -> Any:
        """Return what `programs/ask.py` saw, asked at the admin's place or on a machine."""


@pytest.fixture(scope="session")
def ask() -> Ask:
    """Ask what programs/ask.py says."""
    program = (_PROGRAMS / "ask.py").read_text()

    def asked(lab: Lab, *words: str, on: str | None = None) -> Any:
        if on is None:
            done = lab.run([sys.executable, "-", *words], text=program)
        else:
            done = lab.exec(on, ["python3", "-", *words], text=program)
        return json.loads(done.stdout)

    return asked


class Answer(Protocol):
    """Makes a machine of a lab answer."""

    def __call__(self, lab: Lab, machine: str) -> None:
        """Start programs/answer.py on the machine and wait until it listens."""


@pytest.fixture(scope="session")
def answer() -> Answer:
    """Make machines answer what `ask` asks."""
    program = (_PROGRAMS / "answer.py").read_text()

    def answering(lab: Lab, machine: str) -> None:
        lab.exec(machine, ["tee", "/root/answer.py"], text=program)
        unit = ["systemd-run", "--quiet", "--unit=answer", "python3", "/root/answer.py"]
        lab.exec(machine, unit)
        ready = "until ss -Hltn sport = :8080 | grep -q .; do sleep 0.05; done"
        lab.exec(machine, ["timeout", "10", "sh", "-c", ready])

    return answering


@pytest.fixture
def town(lab_ready: None, tmp_path: Path) -> Iterator[Town]:
    """An internet of namespaces, for machines that are members of a mesh."""
    del lab_ready
    made = Town(tmp_path)
    yield made
    made.remove()
