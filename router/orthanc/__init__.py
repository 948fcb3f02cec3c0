"""Orthanc's REST API, as far as the router uses it. Read first: client.py."""
