"""What a site keeps of people, and how it goes. Read first: erase.py."""
