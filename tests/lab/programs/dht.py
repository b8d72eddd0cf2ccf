"""Nodes of a private DHT, one for each address given; the first is where the others begin."""

import sys
import time

import libtorrent

OFF = ("enable_lsd", "enable_upnp", "enable_natpmp")

nodes = [
    libtorrent.session(
        {
            "listen_interfaces": f"{address}:6881",
            "dht_bootstrap_nodes": f"{sys.argv[1]}:6881",
            "enable_dht": True,
        }
        | dict.fromkeys(OFF, False)
    )
    for address in sys.argv[1:]
]
print("ready", flush=True)  # noqa: T201 (what the test waits for)
while True:
    time.sleep(60)
