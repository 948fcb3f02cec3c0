"""What a site keeps of people: erased, backed up, restored. Read first: erase.py, backup.py."""
