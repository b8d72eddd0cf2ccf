"""What the mesh has to do with the world: the kernel, WireGuard, sockets, the firewall.

Nothing here decides: each file says what there is, and does what it is told.
"""
