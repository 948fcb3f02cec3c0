"""Faults in a data set, looked for before training. Read first: command.py."""
