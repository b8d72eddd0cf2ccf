"""`python -m clan` is the same program as `clan`."""

from clan.cli.main import main

if __name__ == "__main__":
    main()
