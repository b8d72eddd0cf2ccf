"""A private internet of real machines on this computer."""
