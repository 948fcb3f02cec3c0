"""What a bundle is on disk: its description, recipe, weights and versions. Read first: bundle.py."""
