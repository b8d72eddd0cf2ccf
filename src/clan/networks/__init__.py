"""Choosing among networks: the technology contract, ranking, racing, remembering."""
