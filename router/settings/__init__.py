"""The configuration: its tables, how it is found and read, and its page of documentation. Read first: tables.py."""
