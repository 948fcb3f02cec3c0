"""What readers made of our results, compared with them. Read first: runner.py."""
