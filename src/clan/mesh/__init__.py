"""The mesh: machines reach each other over whatever works, and stay connected when it changes.

It is shipped to machines with `clan.machine`: it imports the standard library, cryptography,
`clan.machine` and itself.
"""
