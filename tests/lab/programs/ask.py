"""Asks `answer.py` from somewhere in a lab and prints what it saw as JSON.

ask.py mapping HOST:PORT…   the address one socket is seen with at each, and whether a stranger
                            who learnt it gets in
ask.py echo HOST COUNT      the share of datagrams answered, and the median round trip, seconds
ask.py connect HOST PORT    whether a TCP connection is made
ask.py give|take HOST BYTES seconds to get or to send so many bytes over TCP
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def mapping(targets: list[str]) -> dict[str, object]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 5000))
        sock.settimeout(2)
        seen = []
        for target in targets:
            host, _, port = target.rpartition(":")
            sock.sendto(b"hello", (host, int(port)))
            seen.append(json.loads(sock.recv(2000))[1:])
        host, _, port = targets[0].rpartition(":")
        sock.sendto(b"poke", (host, int(port)))
        sock.settimeout(1)
        got = []
        try:
            for _ in range(2):
                got.append(sock.recv(2000))  # noqa: PERF401 (the first may be all there is)
        except TimeoutError:
            pass
        return {"seen": seen, "stranger": b"stranger" in got}


def echo(host: str, count: int) -> dict[str, float]:
    sent: dict[str, float] = {}
    times = []
    with socket.socket(family(host), socket.SOCK_DGRAM) as sock:
        for number in range(count):
            sent[str(number)] = time.monotonic()
            sock.sendto(str(number).encode(), (host, 7000))
            sock.settimeout(0.005)
            times += receive(sock, sent)
        sock.settimeout(0.3)
        times += receive(sock, sent)
    return {"share": len(times) / count, "seconds": statistics.median(times) if times else 0.0}


def receive(sock: socket.socket, sent: dict[str, float]) -> list[float]:
    times = []
    try:
        while True:
            number = json.loads(sock.recv(2000))[0]
            times.append(time.monotonic() - sent[number])
    except TimeoutError:
        return times


def connect(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def give(host: str, count: int) -> float:
    begun = time.monotonic()
    with socket.create_connection((host, 8080), timeout=20) as sock:
        sock.sendall(f"give {count}\n".encode())
        while sock.recv(65536):
            pass
    return time.monotonic() - begun


def take(host: str, count: int) -> float:
    begun = time.monotonic()
    with socket.create_connection((host, 8080), timeout=20) as sock:
        sock.sendall(b"take\n" + bytes(count))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(100)
    return time.monotonic() - begun


def main(words: list[str]) -> object:
    match words:
        case ["mapping", *targets]:
            return mapping(targets)
        case ["echo", host, count]:
            return echo(host, int(count))
        case ["connect", host, port]:
            return connect(host, int(port))
        case ["give", host, count]:
            return give(host, int(count))
        case ["take", host, count]:
            return take(host, int(count))
    raise ValueError(words)


sys.stdout.write(json.dumps(main(sys.argv[1:])))
