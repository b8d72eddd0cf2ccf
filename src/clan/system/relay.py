"""What `ssh` runs to be given its connection and to ask for host keys; see `clan.system.ssh`.

    relay.py SOCKET connection          receive a descriptor at SOCKET, pass it on to ssh
    relay.py SOCKET key REASON TYPE KEY print the known_hosts lines that SOCKET answers with

It is run as a plain file by `python -I -S`, hence imports nothing of clan. ssh waits for it more
than once a login: `socket`, which would double the time it takes to start, is done without.
"""

import os
import sys
from _socket import AF_UNIX, CMSG_LEN, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET
from _socket import socket as Socket  # noqa: N812 (a class, whatever C calls it)

DESCRIPTOR = 4
"""Bytes of one in a message."""


def main() -> None:
    """Ask at the socket; a silent end tells ssh that there is nothing."""
    asking = Socket(AF_UNIX, SOCK_STREAM)
    asking.connect(sys.argv[1])
    asking.sendall(" ".join(sys.argv[2:]).encode() + b"\n")
    if sys.argv[2] == "connection":
        # ProxyUseFdpass: ssh expects one byte with one descriptor on our standard output.
        byte, rights, _, _ = asking.recvmsg(1, CMSG_LEN(DESCRIPTOR))
        descriptors = [
            data for level, kind, data in rights if (level, kind) == (SOL_SOCKET, SCM_RIGHTS)
        ]
        if descriptors:
            Socket(AF_UNIX, SOCK_STREAM, 0, 1).sendmsg(
                [byte], [(SOL_SOCKET, SCM_RIGHTS, descriptors[0])]
            )
        return
    while answer := asking.recv(65536):
        os.write(1, answer)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        # Ctrl-C at a question of clan's reaches everyone at the terminal; ssh ends by it, too.
        sys.exit(130)
