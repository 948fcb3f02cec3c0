"""Workitems of a worklist (UPS-RS): found, claimed, read by a route, and reported on, as their performer.

Read first: performer.py.
"""
