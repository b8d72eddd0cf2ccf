"""One folder per service; siblings that never import each other."""
