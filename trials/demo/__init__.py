"""See it work on one study. Read first: command.py."""
