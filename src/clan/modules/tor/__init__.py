"""Machines that are onion services."""
