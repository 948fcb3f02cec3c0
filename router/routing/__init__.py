"""Pure decisions: is a study complete, which routes read it. Read first: rules.py."""
