"""Machines that have an address on the internet, or behind jump hosts."""
