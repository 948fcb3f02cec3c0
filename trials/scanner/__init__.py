"""A modality as the network sees it: worklist, images, MPPS. Read first: sender.py."""
