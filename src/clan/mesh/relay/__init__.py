"""Relays: a machine that can be reached from outside passes others' sealed datagrams on.

`message`, `pick`, `wish`, `seat`, `desk`, `offer` and `table` decide, and are pure. `post`, `nat`,
`pump`, `host` and `relaying` are the world: what the kernel hears and does, and a program that
passes on where the kernel cannot.
"""
