"""Taking generations to machines: push, activate, confirm by a fresh login, or see it undone."""
