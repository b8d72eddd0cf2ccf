"""A virtual machine for what no machine of the lab can show: a kernel that has WireGuard.

QEMU without KVM runs Debian's cloud kernel. The root is the lab's image in memory, and all that the
machine does is to run one program as its init, whose output is the console's.
"""

from __future__ import annotations

import compileall
import os
import platform
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from clan.lab import image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KERNEL = "linux-image-cloud-amd64"
MODULES = ("wireguard", "veth", "nft_fib_inet", "nft_limit", "nft_log", "nfnetlink_log")
_LEFT_OUT = ("usr/share", "var", "boot", "usr/lib/systemd", "usr/lib/apt", "usr/include")
_PATIENCE = 900.0

# finit_module(2) is 313 on amd64, the only processor that this boots on.
_INIT = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run /var /tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
python3 -c '
import ctypes, pathlib
for path in sorted(pathlib.Path("/modules").iterdir()):
    with path.open("rb") as file:
        if ctypes.CDLL(None, use_errno=True).syscall(313, file.fileno(), b"", 0):
            print(path, "did not load:", ctypes.get_errno())
'
{command}
echo o >/proc/sysrq-trigger
sleep 60
"""


class NoVmError(Exception):
    """This computer cannot run it; the message says why."""


def kernel() -> Path:
    """Return the unpacked package of a kernel, fetched once into the lab's cache."""
    if platform.machine() != "x86_64":
        raise NoVmError("it boots a kernel for amd64 only")
    if shutil.which("qemu-system-x86_64") is None:
        raise NoVmError("qemu-system-x86 is not installed")
    shown = subprocess.run(
        ["apt-cache", "depends", KERNEL], capture_output=True, text=True, check=False
    ).stdout
    names = [line.split()[-1] for line in shown.splitlines() if "Depends: linux-image-" in line]
    if not names:
        raise NoVmError(f"apt knows no {KERNEL}")
    folder = image.cache() / f"kernel-{names[0]}"
    if not folder.is_dir():
        draft = folder.with_name(f".building-{folder.name}-{os.getpid()}")
        draft.mkdir()
        subprocess.run(["apt-get", "-q", "download", names[0]], cwd=draft, check=True)
        (package,) = draft.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, draft], check=True)
        package.unlink()
        draft.rename(folder)
    return folder


def run(
    command: str,
    files: Mapping[str, bytes],
    packages: Iterable[Path],
    scratch: Path,
    clock: str = "utc",
    *,
    disk: Path | None = None,
) -> str:
    """Boot, run a shell command, and return what the console showed.

    `files` are further ones by their path, `packages` are unpacked over the root, `clock` is when
    it boots, as in 1999-12-31T23:59:59. `disk` is its /dev/nvme0n1; what is written to that is
    logged in a file beside it, whose name ends in `.log`.
    """
    found = kernel()
    extra = scratch / "extra"
    for package in packages:
        subprocess.run(["dpkg-deb", "-x", package, extra], check=True)
    # In the image these are links into usr, which a folder of the same name would replace.
    for name in ("bin", "sbin", "lib"):
        if (extra / name).is_dir():
            shutil.copytree(extra / name, extra / "usr" / name, dirs_exist_ok=True)
            shutil.rmtree(extra / name)
    for number, module in enumerate(ordered(found)):
        target = extra / f"modules/{number:02}.ko"
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(module, target)
    for name, data in files.items():
        (extra / name).parent.mkdir(parents=True, exist_ok=True)
        (extra / name).write_bytes(data)
    # It would take the machine longer than all else that it does.
    compileall.compile_dir(extra, quiet=2, stripdir=str(extra))
    (extra / "init").write_text(_INIT.replace("{command}", command))
    (extra / "init").chmod(0o755)
    archive = scratch / "root.cpio"
    with archive.open("wb") as out:
        for member in (*entries(image.find().root), *entries(extra)):
            out.write(member)
        out.write(_record("TRAILER!!!", 0, 0, b""))
    (vmlinuz,) = (found / "boot").glob("vmlinuz-*")
    done = subprocess.run(
        [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1536"),
            *("-nographic", "-no-reboot", "-nic", "none", "-rtc", f"base={clock}"),
            *(_logged(disk) if disk is not None else ()),
            *("-kernel", str(vmlinuz)),
            *("-initrd", str(archive), "-append", "console=ttyS0 quiet panic=-1"),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE,
        check=True,
    )
    return done.stdout


def _logged(disk: Path) -> list[str]:
    """Return QEMU's words for a disk that has to be flushed, all writes to which are logged."""
    log = disk.with_name(f"{disk.name}.log")
    log.touch()
    return [
        *("-blockdev", f"driver=file,filename={disk},node-name=disk"),
        *("-blockdev", f"driver=file,filename={log},node-name=log"),
        *("-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log"),
        *("-device", "nvme,drive=logged,serial=disk,write-cache=on"),
    ]


def ordered(found: Path, modules: Iterable[str] = MODULES) -> list[Path]:
    """Return the files of modules and of all they need, in the order in which they load."""
    files = {path.stem.replace("-", "_"): path for path in found.rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in order or name not in files:
            return  # what has no file is built in
        # A string of its .modinfo section.
        depends = files[name].read_bytes().partition(b"\0depends=")[2].partition(b"\0")[0]
        for needed in depends.decode().split(","):
            add(needed.replace("-", "_"))
        order[name] = files[name]

    for name in modules:
        add(name)
    return list(order.values())


def entries(root: Path) -> Iterator[bytes]:
    """Yield a tree as members of a cpio archive, "newc" (Linux, buffer-format.rst)."""
    for folder, folders, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        folders[:] = [name for name in folders if str(inside / name) not in _LEFT_OUT]
        for name in (*folders, *names):
            path = Path(folder, name)
            found = path.lstat()
            mode, data = found.st_mode, b""
            if stat.S_ISLNK(mode):
                data = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                data = path.read_bytes()
            elif not stat.S_ISDIR(mode):
                continue
            # By the time Python knows which of its compiled files still hold.
            yield _record(str(inside / name), mode, int(found.st_mtime), data)


def _record(name: str, mode: int, time: int, data: bytes) -> bytes:
    numbers = (0, mode, 0, 0, 1, time, len(data), 0, 0, 0, 0, len(name.encode()) + 1, 0)
    head = b"070701" + "".join(f"{number:08x}" for number in numbers).encode()
    head += name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
