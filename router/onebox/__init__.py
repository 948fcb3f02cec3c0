"""The whole system in one folder on one machine. Read first: supervisor.py."""
