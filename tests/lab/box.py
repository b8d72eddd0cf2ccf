"""A whole machine under QEMU, with a disk and a clock of its own: what a container cannot show.

Its root is the lab's image on an ext4 with a journal. Killing QEMU loses what the machine has not
written out, as a power cut does, and `-rtc` sets its clock. Only loopback leads to its sshd.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.lab import vm
from tests.lab.office import MODULE, WHOLE, Wish

from clan.lab import image
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NAME = "box"
CLAN = [sys.executable, "-m", "clan"]
MODULES = ("virtio_pci", "virtio_net")
BOOTS = 240.0
"""Seconds that a boot may take on a computer that does much else; it takes some fifteen."""
ADDRESS = "10.0.2.15/24"
"""What QEMU's own network gives its first guest."""
_MASKED = ("systemd-networkd", "systemd-resolved", "avahi-daemon", "serial-getty@ttyS0")
# finit_module(2) is 313 on amd64. There is neither udev nor kmod: this is all that they would do.
_NETWORK = f"""\
import ctypes, pathlib, subprocess
for path in sorted(pathlib.Path("/modules").iterdir()):
    with path.open("rb") as file:
        ctypes.CDLL(None).syscall(313, file.fileno(), b"", 0)
for words in ("address add {ADDRESS} dev eth0", "link set eth0 up"):
    subprocess.run(["ip", *words.split()], check=True)
"""
_UNIT = """\
[Unit]
DefaultDependencies=no
Before=network-pre.target
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=python3 -I /modules.py
[Install]
WantedBy=sysinit.target
"""

# A shell would start a program for each look, and emulated that keeps a processor busy.
_WATCH = """\
import pathlib, sys, time
file = pathlib.Path("/run/clan/activation.json")
file.unlink(missing_ok=True)
print(flush=True)
while not (file.exists() and any(each in file.read_text() for each in sys.argv[1:])):
    time.sleep(0.005)
print(flush=True)
"""
_SSHD = """\
# Emulated, a key exchange and the start of a user's services take a second each.
KexAlgorithms curve25519-sha256
UsePAM no
"""


class Box:
    """The machine, and the clan of an admin on this computer whose only machine it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clan_dir = folder / "clan"
        self.disk = folder / "disk"
        self.process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.kernel = vm.kernel()
        if shutil.which("mke2fs") is None:
            raise vm.NoVmError("e2fsprogs is not installed")
        self._key(folder / "admin")
        self._make_disk()
        agent = folder / "agent"
        self.agent = subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL)
        self.environment = {
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "SSH_AUTH_SOCK": str(agent),
            **{f"XDG_{name}_HOME": str(folder / name) for name in ("CONFIG", "STATE", "CACHE")},
        }
        _until(agent.exists, 10)
        subprocess.run(
            ["ssh-add", "-q", folder / "admin"], env=self.environment, check=True, timeout=10
        )
        (self.clan_dir / "modules").mkdir(parents=True)
        (self.clan_dir / "modules/story.py").write_text(MODULE)
        self.wants(Wish())
        store = Store.of(self.clan_dir, self.environment)
        key = (folder / "host.pub").read_text().split()
        store.write(NAME, *HOST_KEY, " ".join(key[:2]))

    def _key(self, path: Path) -> None:
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
        subprocess.run(words, check=True)

    def _make_disk(self) -> None:
        found = image.find()
        root = self.folder / "root"
        subprocess.run(["cp", "-a", found.root, root], check=True)
        (age,) = (found.repository / "pool").glob("age_*.deb")
        subprocess.run(["dpkg", f"--root={root}", "-i", age], check=True, capture_output=True)
        # What makes an image faster would lose packages with the power.
        shutil.rmtree(root / "etc/dpkg/dpkg.cfg.d")
        (root / "modules").mkdir()
        for number, module in enumerate(vm.ordered(self.kernel, MODULES)):
            shutil.copy2(module, root / f"modules/{number:02}.ko")
        self._key(self.folder / "host")
        shutil.copy2(self.folder / "host", root / "etc/ssh/ssh_host_ed25519_key")
        shutil.copy2(self.folder / "host.pub", root / "etc/ssh/ssh_host_ed25519_key.pub")
        (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copy2(self.folder / "admin.pub", root / "root/.ssh/authorized_keys")
        (root / "etc/ssh/sshd_config.d/box.conf").write_text(_SSHD)
        (root / "etc/hostname").write_text(f"{NAME}\n")
        (root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n")
        (root / "modules.py").write_text(_NETWORK)
        (root / "etc/systemd/system/modules.service").write_text(_UNIT)
        systemctl = ["systemctl", f"--root={root}", "--quiet"]
        subprocess.run([*systemctl, "enable", "modules"], check=True)
        subprocess.run([*systemctl, "mask", *_MASKED], check=True)
        words = ["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(self.disk), "1500M"]
        subprocess.run(words, check=True)
        shutil.rmtree(root)

    def wants(self, wish: Wish) -> None:
        """Write the clan's file."""
        lines = ["[meta]", 'name = "power"', f"[machines.{NAME}]"]
        lines += [f"[instances.internet.roles.default.machines.{NAME}.settings]"]
        lines += ['host = "127.0.0.1"', f"port = {self.port}"]
        lines += [f"[instances.story.roles.default.machines.{NAME}.settings]", wish.to_toml()]
        (self.clan_dir / "clan.toml").write_text("\n".join(lines) + "\n")

    def boot(self, clock: str = "utc", *, log: Path | None = None) -> None:
        """Give it power; `clock` is what its clock shows, as `-rtc base=` takes it.

        What it writes to its disk is logged, if `log` says where.
        """
        (vmlinuz,) = (self.kernel / "boot").glob("vmlinuz-*")
        disk = f"driver=file,filename={self.disk},node-name=disk"
        logged = []
        if log is not None:
            log.touch()
            logged = ["-blockdev", f"driver=file,filename={log},node-name=log"]
            logged += ["-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"]
        line = "root=/dev/nvme0n1 rw console=ttyS0 quiet panic=-1 net.ifnames=0"
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "768"),
                *("-display", "none", "-monitor", "none", "-rtc", f"base={clock}"),
                *("-serial", f"file:{self.folder / 'console'}"),
                *("-blockdev", disk, *logged),
                # With a memory of its own, which has to be flushed.
                *(
                    "-device",
                    f"nvme,drive={'logged' if log else 'disk'},serial=disk,write-cache=on",
                ),
                *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
                *("-device", "virtio-net-pci,netdev=net"),
                *("-kernel", str(vmlinuz), "-append", line),
            ],
            stdin=subprocess.DEVNULL,
        )
        _until(lambda: self.ssh("true").returncode == 0, BOOTS, each=0.5)

    def cut_power(self) -> None:
        """Take its power away, from one moment to the next."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """End all of it."""
        self.cut_power()
        self.agent.terminate()
        self.agent.wait()

    def ssh(self, command: str, *, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command there by plain ssh; status 255 where nothing answers."""
        return subprocess.run(
            self._words(command),
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def _words(self, command: str) -> list[str]:
        known = self.folder / "known"
        known.write_text(f"[127.0.0.1]:{self.port} {(self.folder / 'host.pub').read_text()}")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        to = ["-p", str(self.port), "root@127.0.0.1"]
        return ["ssh", "-F", "none", *words, *to, command]

    @contextlib.contextmanager
    def watch(self, step: str) -> Iterator[Callable[[], None]]:
        """Give a function that returns when an activation is at a step, or it is too late for that.

        It looks from when it was given, so that the moment is not missed.
        """
        words = self._words(
            f"exec 2>/dev/null; python3 -I -c '{_WATCH}' {step} confirmed 'rolled back'"
        )
        with subprocess.Popen(
            words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline()
            yield run.stdout.readline  # type: ignore[misc]
            run.kill()

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start `clan`."""
        return subprocess.Popen(
            [*CLAN, "--clan", str(self.clan_dir), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def clan(self, *words: str) -> Any:
        """Run `clan … --json` and return what it printed."""
        run = self.begin(*words, "--json")
        printed, said = run.communicate(timeout=BOOTS)
        assert printed, said
        return json.loads(printed)

    def settles(self) -> Mapping[str, Any]:
        """Wait until it runs its confirmed generation and nothing else; return how it stands."""
        found: dict[str, Any] = {}

        def settled() -> bool:
            done = self.ssh("python3 -I -", text=WHOLE)
            if done.returncode != 0:
                return False  # its sshd starts anew when a generation is undone
            found.update(json.loads(done.stdout))
            return not found["wrong"] and found["current"] == found["confirmed"]

        try:
            _until(settled, BOOTS, each=0.5)
        except TimeoutError:
            raise AssertionError(found) from None
        (shown,) = self.clan("machines", "status", NAME)
        assert shown["generation"] == found["confirmed"]
        return {**found, "state": shown["state"]}

    def text(self) -> str:
        """Return the version that its file has."""
        return self.ssh("cat /etc/story/text").stdout.strip()


def _until(holds: Any, limit: float, each: float = 0.02) -> None:
    end = time.monotonic() + limit
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(each)
