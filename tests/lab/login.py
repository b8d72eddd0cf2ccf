"""A shell of one machine on another: real ssh."""

from __future__ import annotations

import contextlib
import getpass
import select
import subprocess
import time
from typing import TYPE_CHECKING

from tests.sshd import Keys, make_key, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.agents import Box


class Login:
    """What is typed there comes back."""

    def __init__(self, ssh: subprocess.Popen[bytes]) -> None:
        self._ssh = ssh
        self._lines = 0

    def answers(self, seconds: float = 60) -> None:
        """Type a line, and wait until it has come back."""
        assert self._ssh.stdin is not None
        assert self._ssh.stdout is not None
        self._lines += 1
        typed = f"line {self._lines}\n".encode()
        self._ssh.stdin.write(typed)
        shown, end = b"", time.monotonic() + seconds
        while shown != typed:
            left = end - time.monotonic()
            assert select.select([self._ssh.stdout], [], [], max(left, 0))[0], "it hangs"
            part = self._ssh.stdout.read(len(typed) - len(shown))
            assert part, "it has ended"
            shown += part


@contextlib.contextmanager
def login(one: Box, other: Box) -> Iterator[Login]:
    """Log in from one machine to the address for life of the other, as OpenSSH does by default."""
    keys, known = Keys(identity=other.folder / "login"), one.folder / "known_hosts"
    make_key(keys.identity)
    with contextlib.ExitStack() as made:
        with other.space.inside():
            at = str(other.address)
            server = made.enter_context(serving(other.folder, "sshd", keys, address=at))
        known.write_text(f"[{at}]:{server.port} {server.key}\n")
        options = ["-F", "none", "-p", str(server.port), "-o", "BatchMode=yes", *keys.options]
        options += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known}"]
        words = ["ssh", *options, f"{getpass.getuser()}@{at}", "cat"]
        ssh = subprocess.Popen(
            ["ip", "netns", "exec", one.space.name, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        try:
            yield Login(ssh)
            ssh.stdin.close()
            assert ssh.wait(60) == 0
        finally:
            ssh.kill()
            ssh.wait()
            ssh.stdin.close()
            ssh.stdout.close()
