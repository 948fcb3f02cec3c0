"""The command line of the router: ``medai`` and its commands. Read first: main.py."""
