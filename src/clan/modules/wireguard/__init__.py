"""A WireGuard network of controllers and peers."""
