"""Offline: data sets, fitting, judging, comparing, exporting and promoting models. Never imported by the daemon.

The command is ``medai-train`` (cli.py). Next: config.py (what a training is), fitting/fit.py (the loop on one page).
"""
