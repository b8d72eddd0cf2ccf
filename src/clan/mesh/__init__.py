"""Machine to machine: links, what is measured inside them, and which of them carries a peer.

It is shipped to machines together with `clan.machine`, so it imports the standard library,
`cryptography` as Debian has it, `clan.machine` and itself.
"""
