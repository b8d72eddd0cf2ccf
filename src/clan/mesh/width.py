"""How large a packet a link takes: found out by padded probes, and given up when they vanish.

Pure, and about one link. It begins at 1280 bytes, which IPv6 demands of every link, and climbs as
far as padded probes come back. The answer to a padded probe has its size, so both directions are
tried. When so many in a row of the size in use are lost, while small ones come back, that the
link's usual loss does not explain it, it falls to 1280 at once; when even those vanish it is
`narrow`, and `choose` keeps away from it. Nothing waits for an ICMP message: many networks drop
them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

LADDER = (1280, 1340, 1380, 1400, 1412, 1420)
"""Bytes inside: IPv6's least, mobile networks, tunnels, PPPoE and Ethernet."""
OFTEN = 2.0
"""Seconds between checks of the size in use on a path."""
SELDOM = 10.0
"""The same on a standby."""
SOON = 0.2
"""Seconds until the next rung, or until a probe that was lost is sent again."""
AGAIN = 600.0
"""Seconds until a size that did not pass is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Width:
    """What is known of a link's size."""

    mtu: int = LADDER[0]
    """Bytes of the largest packet that is known to pass."""
    ceiling: int = LADDER[-1] + 1
    """A size that did not."""
    tried: float = -math.inf
    """When that was found out."""
    last: int = LADDER[0]
    """The size that was tried last."""
    misses: int = 0
    """Padded probes of that size lost in a row."""
    next: float = -math.inf
    """When the next one is due."""
    narrow: bool = False
    """Whether not even 1280 bytes pass, while small ones do."""


def size(width: Width, now: float) -> int:
    """Return the size to try now: the next rung, or the one in use."""
    if width.misses:
        return width.last
    if width.narrow:
        return LADDER[0]
    ceiling = LADDER[-1] + 1 if now - width.tried >= AGAIN else width.ceiling
    return next((rung for rung in LADDER if width.mtu < rung < ceiling), width.mtu)


def asked(width: Width, size: int, now: float, *, path: bool) -> Width:
    """Note that a padded probe was sent."""
    return replace(width, last=size, next=now + (OFTEN if path else SELDOM))


def passed(width: Width, size: int, now: float) -> Width:
    """Note that a padded probe came back."""
    higher = size > width.mtu or width.misses > 0 or width.narrow
    climbs = size < LADDER[-1] and size + 1 < width.ceiling
    return replace(
        width,
        mtu=max(width.mtu, size),
        misses=0,
        narrow=False,
        next=now + SOON if higher and climbs else width.next,
    )


def vanished(width: Width, size: int, now: float, *, needed: int) -> Width:
    """Note that a padded probe was lost while a small one sent after it came back.

    `needed` in a row cannot be the link's usual loss.
    """
    misses = width.misses + 1
    if misses < needed:
        return replace(width, misses=misses, next=min(width.next, now + SOON))
    if size > width.mtu:
        return replace(width, misses=0, ceiling=size, tried=now)
    if width.mtu > LADDER[0]:
        return replace(width, misses=0, mtu=LADDER[0], ceiling=size, tried=now, next=now + SOON)
    return replace(width, misses=0, narrow=True)
