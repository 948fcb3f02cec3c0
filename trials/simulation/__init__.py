"""Queues computed instead of played: capacity, a year, validation. Read first: simulate.py."""
