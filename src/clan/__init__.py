"""clan: one private network for a family, a team or a small business, and one place to run it."""

__version__ = "0.1.0"
