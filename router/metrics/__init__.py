"""What Prometheus reads. Read first: page.py."""
