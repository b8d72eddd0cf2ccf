from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from clan.lab.proc import addresses4, addresses6, listening

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0A01A8C0:0016 0201A8C0:C350 01 00000000:00000000 02:0009F5AB 00000000     0        0 2 4 0
   2: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 3 1 0
"""
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.168.1.0/24 2 0 1
        |-- 192.168.1.10
           /32 host LOCAL
Local:
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.168.1.10
        /32 host LOCAL
     |-- 192.168.1.255
        /32 link BROADCAST
"""
INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000100000000000000000010 02 40 00 00    host0
20010db8000200000000000000000010 02 40 00 40    host0
fe80000000000000a0f545fffe6e2069 02 40 20 80    host0
"""


def test_only_listening_ports_count() -> None:
    assert listening(TCP) == {22, 53}


def test_addresses_beyond_the_link_are_found_once() -> None:
    assert addresses4(TRIE) == [IPv4Address("192.168.1.10")]
    assert addresses6(INET6) == [IPv6Address("2001:db8:1::10")]
