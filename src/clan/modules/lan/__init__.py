"""Machines that find each other by mDNS on the local network."""
