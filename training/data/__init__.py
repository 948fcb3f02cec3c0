"""Cases with labels: where they come from, how they are split, prepared and augmented. Read first: datasets.py."""
