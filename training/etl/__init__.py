"""Preparing a data set as a Mage.ai pipeline: load, validate, resample, augment, export.

Mage orchestrates in an environment of its own (mage_project/, command.py); each of its blocks starts a small command of
ours (steps.py), which calls the very functions that fitting calls. Next: command.py.
"""
