"""Frozen values without input or output: what the other packages hand each other."""
