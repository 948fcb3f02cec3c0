"""Studies for others: taken off their patient (deidentify.py), written for researchers (files.py, cli.py), read by an
AI outside and taken back (exchange.py).
"""
