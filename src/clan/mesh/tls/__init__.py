"""WireGuard's datagrams in TLS streams on port 443, by way of a member that passes them on.

For machines that get nothing else out. It is a process of its own, so that no stream ends with the
agent; what it is to have the agent writes to a file. It can neither read nor forge what it carries.
"""
