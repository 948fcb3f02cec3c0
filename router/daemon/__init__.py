"""The router's process: its loop, what it decides about a study, its leadership and its clock. Read first: loop.py."""
