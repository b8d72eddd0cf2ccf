"""Ways over several members: two machines that share no network are joined by others that do.

Members tell each other, in signed lists, whom they reach (`lists`, `flood`). The source works the
way out (`graph`) and writes it into the address to which WireGuard sends (`labels`). Each machine
in the middle strikes its own name out there and passes the datagram on, in its kernel (`forward`).
What goes on is sealed from end to end, inside the sealed links of the hops: two layers, however
long the way. `guide` is all this for an agent.
"""
