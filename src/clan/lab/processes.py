"""Processes of a lab: steps that finish, and programs that run in its control group until `down`.

Everything that stays alive is put into the lab's control group before it starts, so that ending the
group ends the lab, whatever became of the process that started it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import LabError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE = 20.0
"""Seconds that killed processes have to go."""

_TOLD = 12
"""Lines, the last ones, that an error repeats of what a program said."""

# Waits until it is in its group; when the starter dies before that, it ends here. What it starts is
# in the group from birth, and init's child once this ends: nobody has to wait for it.
_GATE = 'read -r log || exit 1; "$@" </dev/null >>"$log" 2>&1 & echo "$!"'


def hierarchies() -> tuple[Path, ...]:
    """Return where control groups are made: cgroup2 first, then systemd's own where it is apart.

    Raises LabError where there is no cgroup2, without which a lab could not be ended for sure.
    """
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        return (top,)
    if not (top / "unified").is_dir():
        raise LabError(f"the lab needs cgroup2, and there is none at {top}")
    return tuple(top / name for name in ("unified", "systemd") if (top / name).is_dir())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A control group of the lab, by its path below the hierarchies' roots."""

    path: str

    def child(self, name: str) -> Group:
        """Return a group inside this one."""
        return Group(path=f"{self.path}/{name}")

    def make(self) -> None:
        """Make the group, or leave it as it is."""
        for folder in self._folders():
            folder.mkdir(parents=True, exist_ok=True)

    def join(self, process: int) -> None:
        """Move a process into the group."""
        for folder in self._folders():
            (folder / "cgroup.procs").write_text(str(process))

    def processes(self) -> Iterator[int]:
        """Yield the processes in the group and in the groups inside it."""
        for folder, _, _ in os.walk(hierarchies()[0] / self.path):
            try:
                listed = Path(folder, "cgroup.procs").read_text().split()
            except OSError:
                continue  # the group went while it was read
            yield from map(int, listed)

    def end(self) -> None:
        """Kill all that runs in the group and remove it; a group that is not there is ended.

        Raises LabError when a process does not go within 20 s.
        """
        deadline = time.monotonic() + _PATIENCE
        kill = hierarchies()[0] / self.path / "cgroup.kill"
        while self._remains():
            if kill.exists():
                kill.write_text("1")
            self._remove()
            if time.monotonic() > deadline:
                left = " ".join(map(str, self.processes()))
                raise LabError(f"processes of the lab do not end: {left}")
            if self._remains():
                time.sleep(0.01)

    def _folders(self) -> Iterator[Path]:
        return (top / self.path for top in hierarchies())

    def _remains(self) -> bool:
        return any(folder.exists() for folder in self._folders())

    def _remove(self) -> None:
        """Remove the group's folders, innermost first, as far as they are empty."""
        for top in self._folders():
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    Path(folder).rmdir()
                except OSError:
                    continue  # a process is still on its way out; `end` comes back


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs the system's programs for a lab.

    `lock` is the descriptor of the lab's lock: a step holds it too, so that when this process is
    killed the lab stays locked until the step it had begun is over.
    """

    lock: int | None = None

    def step(
        self, argv: Sequence[str], *, text: str | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program to its end with `text` as its input; return what it printed.

        Raises LabError with what it said when it fails, MissingProgramError when it is not there.
        """
        try:
            done = subprocess.run(
                argv,
                input=text,
                stdin=subprocess.DEVNULL if text is None else None,
                capture_output=True,
                text=True,
                check=False,
                env=None if env is None else {**os.environ, **env},
                pass_fds=() if self.lock is None else (self.lock,),
            )
        except FileNotFoundError:
            raise missing(argv[0]) from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
            told = "\n".join(said.splitlines()[-_TOLD:])
            raise LabError(f"{' '.join(argv[:6])}: {told}")
        return done.stdout


def require(programs: Sequence[str]) -> None:
    """Raise MissingProgramError for the first program that is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            raise missing(program)


def start(
    argv: Sequence[str],
    group: Group,
    *,
    folder: Path,
    log: Path,
) -> int:
    """Start a program in a group and return its process id; it outlives this process.

    It runs in `folder`, its output is added to the file `log`, and its input is empty.
    """
    with subprocess.Popen(
        ["sh", "-c", _GATE, "lab", *argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    ) as gate:
        group.join(gate.pid)
        printed, _ = gate.communicate(f"{log}\n")
    return int(printed)


def missing(program: str) -> MissingProgramError:
    """Return the error for a program that the lab needs and the computer has not."""
    return MissingProgramError(
        f"{program} is not installed", hint="scripts/setup installs what the lab needs"
    )
