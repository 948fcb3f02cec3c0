"""Models that others trained: read, tried and added as bundles. Read first: read.py."""
