"""The lab's Debian repository: some packages and all they need, signed by a key of its own.

Machines have it as their only source and trust its key alone, so that installing a package in the
lab fetches, checks and unpacks as it does elsewhere.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from clan.lab.processes import Runner

PACKAGES = (
    "age",
    "borgbackup",
    "firewalld",
    "python3-cryptography",
    "tor",
    "tree",
    "ufw",
    "wireguard-go",
    "wireguard-tools",
)
"""What can be installed on a machine, apart from what those need."""

_INDEX = "dists/lab/main/binary-{architecture}"

_RELEASE = {
    "Origin": "clan lab",
    "Label": "clan lab",
    "Suite": "lab",
    "Codename": "lab",
    "Components": "main",
}


def hooks(folder: Path) -> tuple[str, ...]:
    """Return mmdebstrap's hooks that fetch the packages, as seen from the new root, into `folder`.

    This computer's apt works on the new root there (it knows the way to the mirrors), so what is
    fetched is just what the root has not.
    """
    pool = shlex.quote(str(folder / "pool"))
    apt = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get --quiet=2'
    return (
        f"{apt} clean && {apt} --yes --download-only install {' '.join(PACKAGES)} >/dev/null",
        f'mkdir -p {pool} && cp "$1"/var/cache/apt/archives/*.deb {pool} && {apt} clean',
    )


def index(folder: Path, keys: Path, run: Runner) -> None:
    """Write the indexes over the `pool` in a folder, sign them and put the public key beside them.

    The private key is made in the folder `keys` and is not needed again.
    """
    architecture = run.step(["dpkg", "--print-architecture"]).strip()
    packages = folder / _INDEX.format(architecture=architecture) / "Packages"
    packages.parent.mkdir(parents=True)
    packages.write_text(_in(folder, ["apt-ftparchive", "packages", "pool"], run))
    fields = {**_RELEASE, "Architectures": architecture}
    options = [f"-oAPT::FTPArchive::Release::{name}={text}" for name, text in fields.items()]
    suite = folder / "dists/lab"
    release = run.step(["apt-ftparchive", *options, "release", str(suite)])
    (suite / "Release").write_text(release)
    keys.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(keys), "--batch", "--quiet", "--pinentry-mode", "loopback"]
    run.step([*gpg, "--passphrase", "", "--quick-generate-key", "clan lab", "ed25519", "sign"])
    run.step([*gpg, "--clearsign", "--output", str(suite / "InRelease"), str(suite / "Release")])
    (folder / "key.asc").write_text(run.step([*gpg, "--armor", "--export"]))
    run.step(["gpgconf", "--homedir", str(keys), "--kill", "all"])


def _in(folder: Path, argv: list[str], run: Runner) -> str:
    """Run a program in a folder: the paths it prints are relative to that."""
    return run.step(["env", f"--chdir={folder}", *argv])
