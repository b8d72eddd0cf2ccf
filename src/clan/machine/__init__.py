"""What runs on a machine: generations are laid down, switched to, confirmed or rolled back.

It is shipped with each generation and run by the machine's own Python, 3.11 or later, so it imports
the standard library and itself, and nothing else.
"""
