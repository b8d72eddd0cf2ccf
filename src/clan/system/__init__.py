"""This computer: processes, files, ssh, git, addresses."""
