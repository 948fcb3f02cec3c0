"""Networks and what runs them. Read first: definition.py."""
