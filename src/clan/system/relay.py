"""What `ssh` runs to be given its connection and to ask for host keys; see `clan.system.ssh`.

    relay.py SOCKET connection          receive a descriptor at SOCKET, pass it on to ssh
    relay.py SOCKET key REASON TYPE KEY print the known_hosts lines that SOCKET answers with

It is run as a plain file by `python -I -S`, hence imports nothing of clan.
"""

import socket
import sys


def main() -> None:
    """Ask at the socket; a silent end tells ssh that there is nothing."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(sys.argv[1])
        asking.sendall(" ".join(sys.argv[2:]).encode() + b"\n")
        if sys.argv[2] == "connection":
            # ProxyUseFdpass: ssh expects one byte with one descriptor on our standard output.
            _, descriptors, _, _ = socket.recv_fds(asking, 1, 1)
            with socket.socket(fileno=1) as ssh:
                socket.send_fds(ssh, [b"\0"], descriptors)
                ssh.detach()
            return
        while answer := asking.recv(65536):
            sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main()
