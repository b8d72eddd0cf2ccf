"""`scripts/bench mesh`: what a lost way costs, what the mesh takes of a link, and what it idles at.

Agents run in network namespaces over wireguard-go; a cable has a delay where that matters.
"""

from __future__ import annotations

from bench.harness.row import Bench
from bench.mesh import beside, contact, crowded, cuts, idle, relay, streams, throughput

BENCH = Bench(
    title="the mesh",
    rows=(
        *cuts.ROWS,
        *crowded.ROWS,
        *beside.ROWS,
        *contact.ROWS,
        *throughput.ROWS,
        *relay.ROWS,
        *streams.ROWS,
        *idle.ROWS,
    ),
)
