"""The family's story, told by running it: one command, over four networks, as each way is lost.

    scripts/demo          sets up what is missing, then tells the story (needs root)
    scripts/demo --json   the same as data

It uses nothing of clan but the command: each step is a line of story, a command as one would type
it, what the command is to end with, and what it is to show. The story is told on a copy of this
folder, in a lab of its own that is gone at the end, whatever happened. It exits with 1 when a
command did otherwise than the story says.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from codecs import getincrementaldecoder
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

COLUMNS = 80
CONTINUED = " \\\n    "
"""Where a command goes on in the next line."""
LONGEST = 90.0
"""Seconds that one command may take."""
PATIENCE = 5.0
"""Seconds that a command is given to end when it is asked to."""
STYLES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
OVERWRITTEN = re.compile(r"[^\n]*\r")
FINGERPRINT = re.compile(r"SHA256:\S{43}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command of the story, and what is to come of it."""

    story: str
    command: str
    at: str | None = None
    """The machine it is typed on; None for this computer."""
    status: int = 0
    shows: tuple[str, ...] = ()
    over: str | None = None
    """The network that is to carry it; the end of the story lists those."""
    when: str = ""
    """How things stand then, for that list."""

    @property
    def argv(self) -> list[str]:
        """What is run: at a machine, in a shell of the lab's there."""
        words = shlex.split(self.command.replace(CONTINUED, " "))
        return words if self.at is None else ["clan", "lab", "exec", self.at, "--", *words]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A step after it was run."""

    story: str
    at: str | None
    command: str
    status: int
    output: str
    seconds: float
    over: str | None
    when: str
    fault: str | None
    """What was not as the story says."""


LOGIN = "clan ssh nas hostname"
STORY = (
    Step(
        story="A family's clan is one file: its machines, and the networks between them.",
        command="cat clan.toml",
        shows=("[machines.nas]", "[instances.lan", "[instances.internet"),
    ),
    Step(
        story="On this computer they become real machines, with routers and an internet.",
        command="clan lab up",
        shows=("is up after",),
    ),
    Step(
        story="The laptop is at home with the NAS. (admin: where this computer joins in.)",
        command="clan lab status",
        shows=("nas      home     192.168.1.", "laptop   home     192.168.1."),
    ),
    Step(
        story="The admin works on the laptop. First contact: the NAS says which key it has.",
        at="nas",
        command="ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        shows=("SHA256:",),
    ),
    Step(
        story="The laptop has never met the NAS, so clan asks. It is the same key: yes.",
        at="laptop",
        command=LOGIN,
        shows=("nas: over lan, ", "\nnas\n"),
    ),
    Step(
        story="Two networks more. Their secrets will be encrypted, to the admin's own key.",
        at="laptop",
        command="clan vars keys generate --name anna",
        shows=("anna is the clan's first admin",),
    ),
    Step(
        story="WireGuard: the VPS is where the tunnels of the NAS and the laptop meet.",
        at="laptop",
        command=CONTINUED.join(
            (
                "clan instances add wireguard --role peer:nas --role peer:laptop",
                "--role controller:vps --set controller:vps:endpoint=vps.example.com",
            )
        ),
        shows=("Added instance wireguard.",),
    ),
    Step(
        story="Tor: the NAS is an onion service, which only this clan's keys open.",
        at="laptop",
        command="clan instances add tor --role server:nas --role client:laptop",
        shows=("Added instance tor.",),
    ),
    Step(
        story="This internet has a Tor network of its own, and clan.toml has to name it.",
        command=CONTINUED.join(
            (
                "clan lab run -- sh -c",
                """'{ echo "[instances.tor.settings]"; cat "$CLAN_LAB_TOR"; } >>clan.toml'""",
            )
        ),
    ),
    Step(
        story="The machines become members. A fresh login confirms what each was given.",
        at="laptop",
        command="clan machines install nas",
        shows=("nas  updated (generation 1)",),
    ),
    Step(
        story="The laptop is a machine like the others, and installs itself.",
        at="laptop",
        command=CONTINUED.join(
            (
                "clan machines install laptop",
                "--target-host localhost --host-key accept-new",
            )
        ),
        shows=("laptop  updated (generation 1)",),
    ),
    Step(
        story="Last the VPS. It is met on the internet, where a first key may be taken.",
        at="laptop",
        command="clan machines install vps --host-key accept-new",
        shows=("vps  updated (generation 1)",),
    ),
    Step(
        story="The first two could not know the key of the last. Now they do.",
        at="laptop",
        command="clan machines update nas laptop vps",
    ),
    Step(
        story="Now four networks lead to the NAS. The one of highest priority comes first.",
        at="laptop",
        command="clan network list",
        shows=("lan        2500", "internet   2000", "wireguard  1000", "tor        10  "),
    ),
    Step(
        story="At home that is the LAN. No other key will do now, on any network.",
        at="laptop",
        command=LOGIN,
        shows=("nas: over lan, ", "\nnas\n"),
        over="lan",
        when="at home",
    ),
    Step(
        story="The laptop goes to a café.",
        command="clan lab move laptop cafe",
    ),
    Step(
        story="Another LAN, with the same addresses and no NAS: the internet leads home.",
        at="laptop",
        command=LOGIN,
        shows=("nas: over internet, ", "\nnas\n"),
        over="internet",
        when="in a café",
    ),
    Step(
        story="At home, the router does not pass its port on to the NAS any more.",
        command="clan lab cut home --protocol tcp --port 2222",
    ),
    Step(
        story="The NAS and the laptop still have their tunnels to the VPS.",
        at="laptop",
        command=LOGIN,
        shows=("nas: over wireguard, ", "\nnas\n"),
        over="wireguard",
        when="the forwarded port is cut",
    ),
    Step(
        story="The café lets no UDP out any more: no WireGuard, and no DNS.",
        command="clan lab cut cafe --protocol udp",
    ),
    Step(
        story="Tor needs neither, and no open port at home.",
        at="laptop",
        command=LOGIN,
        shows=("nas: over tor, ", "\nnas\n"),
        over="tor",
        when="UDP is cut as well",
    ),
)
END = Step(
    story="The lab is taken down; nothing of it stays on this computer.",
    command="clan lab down",
)


def main() -> int:
    """Tell the story and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Tell the family's story on machines of a lab, as root, in about two minutes. "
        "Ctrl-C ends it; the lab is taken down in any case."
    )
    parser.add_argument("--json", action="store_true", help="print the steps as JSON")
    as_json = parser.parse_args().json
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    begun = time.monotonic()
    told: list[Told] = []
    show = _nothing if as_json else _printer()
    try:
        with tempfile.TemporaryDirectory(prefix="clan-demo-") as place:
            told.extend(tell(Path(place), show))
    except KeyboardInterrupt:
        return 130
    as_told = not any(step.fault for step in told)
    show(summary(told))
    if as_json:
        steps = [asdict(step) for step in told]
        seconds = time.monotonic() - begun
        print(json.dumps({"as_told": as_told, "seconds": seconds, "steps": steps}, indent=2))
    return 0 if as_told else 1


def tell(place: Path, show: Callable[[str], None]) -> Iterator[Told]:
    """Run the steps in a copy of this folder, up to the first that is not as told, and END."""
    folder = place / "family"
    here = Path(__file__)
    shutil.copytree(here.parent, folder, ignore=shutil.ignore_patterns(here.name, "__pycache__"))
    # The folder's name is the lab's too: no other demo has it.
    environment = os.environ | {"CLAN_LAB": place.name, "CLAN_DIR": str(folder)}
    before = ""
    try:
        for step in STORY:
            told = run(step, folder, environment, before=before, show=show)
            before = told.output
            yield told
            if told.fault:
                break
    except KeyboardInterrupt:
        show("\n\n")
        raise
    finally:
        # Whoever wants to leave has to wait for this: what is left would be in the way.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        last = run(END, folder, environment, before="", show=show)
    yield last


def run(
    step: Step,
    folder: Path,
    environment: dict[str, str],
    *,
    before: str,
    show: Callable[[str], None],
) -> Told:
    """Run a step and compare it with the story. `before` is what the last one printed."""
    prompt = "$" if step.at is None else f"{step.at}$"
    command = step.command.replace("\n", "\n> ")
    show(f"\x1b[1m==> {step.story}\x1b[0m\n\x1b[36m{prompt}\x1b[0m {command}\n")
    begun = time.monotonic()
    status, output = at_terminal(step.argv, folder, environment, before=before, show=show)
    seconds = time.monotonic() - begun
    missing = [text for text in step.shows if text not in f"\n{output}"]
    fault = None
    if status != step.status:
        fault = f"it ended with {status} instead of {step.status}"
    elif missing:
        fault = f"nowhere does it say {missing[0].strip()!r}"
    if fault:
        show(f"This is not how the story goes: {fault}.\n")
    elif step.over:
        show(f"\x1b[32m{carried(step.over, seconds)}\x1b[0m\n")
    show("\n")
    return Told(
        story=step.story,
        at=step.at,
        command=step.command,
        status=status,
        output=output,
        seconds=seconds,
        over=step.over,
        when=step.when,
        fault=fault,
    )


def carried(network: str, seconds: float) -> str:
    """Say which network carried a login, and how long it took from Enter to the answer."""
    return f"(carried by {network}, in {seconds:.1f} s)"


def summary(told: list[Told]) -> str:
    """Return what the story showed, in plain words; nothing when it went otherwise."""
    logins = [step for step in told if step.over]
    if not logins or any(step.fault for step in told):
        return ""
    wide = max(len(step.when) for step in logins)
    rows = [f"  {step.when:{wide}}  {step.over:9}  {step.seconds:.1f} s\n" for step in logins]
    return f"\x1b[1m==> Each time the command was `{LOGIN}`:\x1b[0m\n" + "".join(rows)


def at_terminal(
    argv: list[str],
    folder: Path,
    environment: dict[str, str],
    *,
    before: str,
    show: Callable[[str], None],
) -> tuple[int, str]:
    """Run a command at a terminal of its own; return its status and all it printed.

    A question that ends in `[yes/no]` is answered: yes where it shows the fingerprint that
    `before` shows, else no.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, COLUMNS))
    process = subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    deadline = time.monotonic() + LONGEST
    decoder = getincrementaldecoder("utf-8")("replace")
    text = ""
    shown = 0
    try:
        while piece := _read(ours, process, deadline):
            text += decoder.decode(piece).replace("\r\n", "\n")
            if text.endswith("[yes/no] "):
                same = set(FINGERPRINT.findall(before)) & set(FINGERPRINT.findall(text))
                os.write(ours, b"yes\n" if same else b"no\n")
            # Whole lines only: a style is never shown in part.
            end = text.rfind("\n") + 1
            show(text[shown:end])
            shown = end
        show(text[shown:])
    finally:
        _end(process)
        os.close(ours)
    return process.returncode, plain(text)


def plain(text: str) -> str:
    """Return what is left on a terminal, without its style: progress overwrites itself."""
    return STYLES.sub("", OVERWRITTEN.sub("", text))


def _read(terminal: int, process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Wait for what comes next; nothing comes after the process has ended, or is too late."""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                return os.read(terminal, 65536)
            except OSError:  # the last that had the terminal open is ending
                process.wait()
                return b""
        if ended:
            return b""
    return b""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command that has not ended by itself."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _printer() -> Callable[[str], None]:
    """Return what prints; styles only where a person looks who has not refused them."""
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def show(text: str) -> None:
        print(text if styled else plain(text), end="", flush=True)

    return show


def _nothing(text: str) -> None:
    del text


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
