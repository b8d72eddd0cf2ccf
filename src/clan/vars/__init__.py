"""Generated values of the clan, public and secret, and where they are kept."""
