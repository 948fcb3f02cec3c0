"""What a trial showed, as a page with plots. Read first: page.py."""
