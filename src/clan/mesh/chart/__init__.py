"""The map: who is in the clan, signed by its admins, the same on every machine.

    canonical.py   one value, one encoding: strict and bounded
    signed.py      a body, who signed it, and the signature: checked before the body is read
    mandate.py     who may sign: root, epochs and admins, as a chain from the clan's first root
    links.py       what a machine says of its own interfaces, signed by its identity
    content.py     what a map says: machines, rules, secrets; what is wrong with it
    chart.py       a map: its content, its place in the order, its signature
    forks.py       maps beside each other: who removed whom, what holds meanwhile, merging
    accept.py      pure: a map that is offered to one who has another
    store.py       the maps of a machine on its disk

"Map" is what people read; the package is not called so because of the builtin.
"""
