"""Training itself. Read first: fit.py."""
