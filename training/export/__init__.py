"""From a run to a bundle with its card. Read first: bundle.py."""
