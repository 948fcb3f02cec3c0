"""The mutation tester: one small change to a module at a time, and whether its own tests notice.

``python tests/mutation`` (docs/mutation.md holds the last result). Read in this order: targets.py
(which modules, which tests), changes.py (what is changed), play.py (how one mutant is tried), cli.py.
"""
