"""Ways in from outside: ports that routers open, and being found by the mainline DHT.

Both are processes of their own, as routers and the DHT may take seconds: the agent tells them what
is wanted, and they tell it what they found (`seam.py`). All of that is candidates, never facts.
"""
