"""Counts as people say them. Next: output.py."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 case", "2 cases"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
