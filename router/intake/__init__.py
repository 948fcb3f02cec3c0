"""What comes in from Orthanc and from a watched folder, and the facts read from it. Read first: changes.py."""
